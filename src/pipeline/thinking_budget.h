/// How a model that has thought enough is led to its answer.
#pragma once

#include <cstdint>
#include <string>

#include "chat/parsers/reasoning.h"

namespace mobilellm {

/// Tokens that an answer may take once the model was led to it; then generation ends with `length`.
inline constexpr int64_t kMaxLedBoxTokens = 128;

/// The text put into the output when the thinking budget is used up or a loop was seen.
/// With think tags: a sentence and the closing tag (an opening one first when the block was not opened yet); the answer
/// follows as usual. Without tags: a sentence that ends in an open box; the answer ends with the box.
std::string lead_to_answer(ReasoningConvention convention, bool is_inside_reasoning, bool has_text);

}  // namespace mobilellm
