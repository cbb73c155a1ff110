/// What `quantize --report` measures after a quantization, and writes.
#pragma once

#include <string>
#include <vector>

#include "cli/args.h"
#include "quant/quantize_model.h"

namespace mobilellm::cli {

struct ReportFlags {
  std::string path;                ///< FILE.html, FILE.json lies beside it; "" = no report.
  std::vector<std::string> texts;  ///< Empty = the sample text.
};
void declare_report(Args& args, ReportFlags& flags);
/// Fails for misuse, and for files that exist already, before any work.
void check_report(const Args& args, const ReportFlags& flags);

/// Compares source and target, lets both answer questions, times both, and writes both files. Shows progress; a signal
/// throws kCancelled.
void write_quality_report(const ReportFlags& flags, const QuantizeOptions& options, const QuantizeReport& report);

}  // namespace mobilellm::cli
