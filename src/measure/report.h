/// Results of speed tests as JSON, CSV and text.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "measure/machine_limits.h"
#include "measure/sweep.h"

namespace mobilellm {

/// What is the same for all rows.
struct BenchSubject {
  std::string shape;  ///< Of random weights, else empty.
  std::string model;  ///< Path, else empty.
  std::string format, head_format;
  int64_t n_params = 0;
  ModelCost cost;
  size_t kv_bytes_per_token = 0;
  std::string kv;         ///< "f32", "f16", "i16" or "q8"
  bool is_exact = false;  ///< f32 activations.
  int n_threads = 0;
  std::string isa, cpu, version, commit;
  double load_s = 0;         ///< Opening the model and preparing its weights.
  double first_token_s = 0;  ///< From opening the model to the logits after a prompt of 16 tokens.
  std::optional<MachineLimits> limits;
};

struct BenchRow {
  SweepTest test;
  SweepCost cost;
  std::vector<double> seconds;  ///< Of each repetition.
  double others_seconds = 0;    ///< Processor time that others took meanwhile, all repetitions.
  int64_t peak_memory_bytes = 0;

  double tokens_per_second(double run_seconds) const { return static_cast<double>(test.total_tokens()) / run_seconds; }
  double median_seconds() const;
  /// Share of all cores' time that others took; 0 for runs too short to tell.
  double others_share() const;
  double bytes_per_second() const { return cost.bytes() / median_seconds(); }
  double operations_per_second() const { return cost.operations / median_seconds(); }
};

/// One flat object; shares are null when the limits were not measured.
Json row_json(const BenchSubject& subject, const BenchRow& row);
/// The rows as comma-separated values, columns as the keys of row_json(); a heading line first where `has_heading`.
std::string rows_csv(const BenchSubject& subject, const std::vector<BenchRow>& rows, bool has_heading = true);
/// Subject, limits and an aligned table of at most 80 columns.
std::string rows_text(const BenchSubject& subject, const std::vector<BenchRow>& rows);

struct BenchResult {
  BenchSubject subject;
  std::vector<BenchRow> rows;
};

/// Median tokens per second of subjects that ran the same tests, a line each: their formats side by side.
std::string formats_text(const std::vector<BenchResult>& results);

}  // namespace mobilellm
