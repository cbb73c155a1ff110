/// What a quantization did to a model, as one page of HTML without anything from outside, and as JSON.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "quality/comparison.h"
#include "quality/comparison_json.h"

namespace mobilellm {

struct ReportMatrix {
  std::string name;
  std::string storage;  ///< "affine 4 bits, group 64", "Q4_K", "float".
  int64_t n_values = 0;
  uint64_t n_bytes = 0;  ///< With scales and biases.
  double relative_error = 0;
  /// KL in nats per token that this matrix alone causes, when known: predicted as stored, and with it alone
  /// rounded to 4 bits.
  std::optional<double> predicted_loss, rounding_loss;
};

struct ReportAnswer {
  std::string prompt, before, after;
};

struct ReportSpeed {
  std::string test;              ///< "pp512", "tg64".
  double before = 0, after = 0;  ///< Tokens per second.
};

struct QualityReport {
  std::string source, target, method, program, machine;
  double source_bits = 0, target_bits = 0;  ///< Bits per weight of all tensors.
  uint64_t source_bytes = 0, target_bytes = 0;
  std::vector<ReportMatrix> matrices;
  ComparisonReport comparison;
  std::vector<FlipText> flips;  ///< Of the comparison.
  std::vector<ReportAnswer> answers;
  std::vector<ReportSpeed> speeds;
  std::vector<std::string> notes;
};

/// All text is escaped, so that names and answers cannot become markup; the page has no scripts and forbids them.
std::string quality_report_html(const QualityReport& report);
/// The same as JSON text.
std::string quality_report_json(const QualityReport& report);

/// `text` for HTML, in elements and in quoted attributes: well-formed UTF-8, no control characters but newline and tab.
std::string escape_html(std::string_view text);

}  // namespace mobilellm
