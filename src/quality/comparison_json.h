/// A comparison as JSON, and the text around its flips.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "base/json.h"
#include "quality/comparison.h"
#include "tokenizer/tokenizer.h"

namespace mobilellm {

/// A flip in words, well-formed UTF-8.
struct FlipText {
  std::string before;                  ///< Up to 48 tokens of the chunk that the models had read.
  std::string text_a, text_b, actual;  ///< What A and B say next, and what came; "" at a chunk's end.
};
/// One for each of report.flips.
std::vector<FlipText> flip_texts(const ComparisonReport& report, std::span<const TextSet> sets,
                                 const Tokenizer& tokenizer);

/// Sets the members texts, total, n_flips and flips of an object. `flips` as flip_texts() gives them, or empty.
void add_comparison(Json& json, const ComparisonReport& report, std::span<const FlipText> flips);

}  // namespace mobilellm
