/// Flags, progress and cancelling that `perplexity` and `compare` share.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "base/error.h"
#include "base/json.h"
#include "cli/args.h"
#include "cli/terminal.h"
#include "quality/perplexity.h"
#include "quality/text_set.h"

namespace mobilellm::cli {

inline constexpr const char* kMeasureNote =
    "A text is UTF-8, or .jsonl with a key \"text\" or \"messages\" in each row. It is cut into consecutive chunks "
    "without "
    "BOS, each run alone; what fills no whole chunk is left out. Standard errors are those of independent chunks.";

struct MeasureFlags {
  std::vector<std::string> texts;
  TextSetOptions chunks;
  int64_t n_threads = 0;
  bool json = false;
};
void declare_measure(Args& args, MeasureFlags& flags);
/// Fails for misuse that single flags do not show.
void check_measure(const Args& args, const MeasureFlags& flags);

/// How a model computes.
struct ArithmeticFlags {
  std::string arithmetic = "exact";
  std::string kv;
};
/// `prefix` is "", "a-" or "b-": --a-arithmetic.
void declare_arithmetic(Args& args, const std::string& prefix, const std::string& whose, ArithmeticFlags& flags);
RunnerOptions parse_arithmetic(const Args& args, const std::string& prefix, const ArithmeticFlags& flags,
                               int64_t n_threads);
Json arithmetic_json(const RunnerOptions& options);
/// "exact, kv f32".
std::string arithmetic_text(const RunnerOptions& options);

/// Progress on standard error, and an orderly end at a signal, for one measurement.
class MeasureScope {
 public:
  /// The same options with a bar for loading.
  RunnerOptions loading(RunnerOptions options);
  MeasureOptions options(const MeasureFlags& flags);
  void end();  ///< Removes the bar.
  /// The exit status of a cancelled measurement, its message printed; throws other errors again.
  int failed(const Error& error);

 private:
  void show(const char* label, double fraction);

  CancelScope cancel_;
  std::optional<ProgressBar> bar_;
  std::string label_;
};

}  // namespace mobilellm::cli
