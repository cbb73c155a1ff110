// Keys, columns and units of the results.
#include "measure/report.h"

#include <algorithm>
#include <numeric>
#include <thread>

#include "base/error.h"

namespace mobilellm {
namespace {

// Four significant digits are more than a measurement has.
double rounded(double value) { return std::stod(fmt::format("{:.4g}", value)); }

Json share(double value, double limit) { return limit > 0 ? Json(rounded(value / limit)) : Json(); }

std::string csv_field(const Json& value) {
  if (value.is_null()) return "";
  std::string text = value.is_string() ? value.as_string() : value.dump();
  if (text.find_first_of(",\"\n") == std::string::npos) return text;
  std::string quoted = "\"";
  for (const char c : text) quoted += c == '"' ? "\"\"" : std::string(1, c);
  return quoted + "\"";
}

std::string percent(double value, double limit) {
  return limit > 0 ? fmt::format("{:.0f}%", 100 * value / limit) : std::string("-");
}

std::string speed(double value) { return fmt::format("{:.{}f}", value, value < 100 ? 2 : 1); }

}  // namespace

double BenchRow::median_seconds() const {
  std::vector<double> sorted = seconds;
  std::sort(sorted.begin(), sorted.end());
  const size_t middle = sorted.size() / 2;
  return sorted.size() % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

double BenchRow::others_share() const {
  constexpr double kLeastSeconds = 0.3;  // The system counts in steps of 10 ms.
  const double total = std::accumulate(seconds.begin(), seconds.end(), 0.0);
  if (total < kLeastSeconds) return 0;
  return std::min(1.0, others_seconds / (total * std::max(1U, std::thread::hardware_concurrency())));
}

Json row_json(const BenchSubject& subject, const BenchRow& row) {
  const auto [fastest, slowest] = std::minmax_element(row.seconds.begin(), row.seconds.end());
  Json samples = Json::array();
  for (const double s : row.seconds) samples.push(rounded(row.tokens_per_second(s)));
  const MachineLimits limits = subject.limits.value_or(MachineLimits{});
  const auto passes = static_cast<double>(row.test.is_prefill ? 1 : row.test.n_tokens);
  return Json::object()
      .set("test", row.test.name())
      .set(subject.shape.empty() ? "model" : "shape", subject.shape.empty() ? subject.model : subject.shape)
      .set("format", subject.format)
      .set("head_format", subject.head_format)
      .set("threads", subject.n_threads)
      .set("isa", subject.isa)
      .set("n_tokens", row.test.n_tokens)
      .set("depth", row.test.depth)
      .set("n_sequences", row.test.n_sequences)
      .set("shared_prompt", row.test.shared_prompt)
      .set("tps", rounded(row.tokens_per_second(row.median_seconds())))
      .set("tps_min", rounded(row.tokens_per_second(*slowest)))
      .set("tps_max", rounded(row.tokens_per_second(*fastest)))
      .set("samples", std::move(samples))
      .set("gb_per_s", rounded(row.bytes_per_second() * 1e-9))
      .set("share_of_bandwidth", share(row.bytes_per_second(), limits.bandwidth))
      .set("gops", rounded(row.operations_per_second() * 1e-9))
      .set("share_of_peak", share(row.operations_per_second(), limits.peak.operations))
      .set("weight_bytes", subject.cost.weight_bytes)
      .set("exact", subject.is_exact)
      .set("kv", subject.kv)
      .set("kv_bytes_per_token", static_cast<int64_t>(subject.kv_bytes_per_token))
      .set("kv_bytes_per_pass", static_cast<int64_t>(row.cost.kv_bytes / passes))
      .set("n_params", subject.n_params)
      .set("bandwidth_gb_per_s", limits.bandwidth > 0 ? Json(rounded(limits.bandwidth * 1e-9)) : Json())
      .set("bandwidth_large_gb_per_s",
           limits.bandwidth_large > 0 ? Json(rounded(limits.bandwidth_large * 1e-9)) : Json())
      .set("peak_gops", limits.peak.operations > 0 ? Json(rounded(limits.peak.operations * 1e-9)) : Json())
      .set("peak_kind", limits.peak.kind.empty() ? Json() : Json(limits.peak.kind))
      .set("load_s", rounded(subject.load_s))
      .set("first_token_s", rounded(subject.first_token_s))
      .set("peak_memory_mb", rounded(static_cast<double>(row.peak_memory_bytes) * 1e-6))
      .set("others_cpu_share", rounded(row.others_share()))
      .set("cpu", subject.cpu)
      .set("version", subject.version)
      .set("commit", subject.commit);
}

std::string rows_csv(const BenchSubject& subject, const std::vector<BenchRow>& rows, bool has_heading) {
  std::string out;
  for (const BenchRow& row : rows) {
    std::string heading;
    std::string line;
    const Json object = row_json(subject, row);
    for (const auto& [key, value] : object.as_object()) {
      if (value.is_array()) continue;
      heading += (heading.empty() ? "" : ",") + key;
      line += (line.empty() ? "" : ",") + csv_field(value);
    }
    if (has_heading && out.empty()) out = heading + "\n";
    out += line + "\n";
  }
  return out;
}

std::string rows_text(const BenchSubject& subject, const std::vector<BenchRow>& rows) {
  const MachineLimits limits = subject.limits.value_or(MachineLimits{});
  std::string out = fmt::format("{}: {:.1f} M parameters\n",
                                subject.shape.empty() ? subject.model : subject.shape + ", random weights",
                                static_cast<double>(subject.n_params) * 1e-6);
  out += fmt::format("{}{}{}; {:.1f} MB of weights a token\n", subject.format,
                     subject.head_format == subject.format ? "" : ", head " + subject.head_format,
                     subject.is_exact ? ", exact" : "", static_cast<double>(subject.cost.weight_bytes) * 1e-6);
  out += fmt::format("{}, {} thread{}, {}\n", subject.cpu, subject.n_threads, subject.n_threads == 1 ? "" : "s",
                     subject.isa);
  if (subject.limits) {
    out += fmt::format("limits: {:.1f} GB/s ({:.1f} from a large set), {:.0f} Gop/s {}\n", limits.bandwidth * 1e-9,
                       limits.bandwidth_large * 1e-9, limits.peak.operations * 1e-9, limits.peak.kind);
  }
  out += fmt::format("first token {:.3f} s (load {:.3f} s), keys and values in {}, {} bytes a token\n\n",
                     subject.first_token_s, subject.load_s, subject.kv, subject.kv_bytes_per_token);
  out += fmt::format("{:<14}{:>10}{:>10}{:>10}{:>8}{:>7}{:>9}{:>6}{:>6}\n", "test", "tokens/s", "min", "max", "GB/s",
                     "share", "Gop/s", "share", "MB");
  for (const BenchRow& row : rows) {
    const auto [fastest, slowest] = std::minmax_element(row.seconds.begin(), row.seconds.end());
    out += fmt::format("{:<14}{:>10}{:>10}{:>10}{:>8.1f}{:>7}{:>9.0f}{:>6}{:>6.0f}\n", row.test.name(),
                       speed(row.tokens_per_second(row.median_seconds())), speed(row.tokens_per_second(*slowest)),
                       speed(row.tokens_per_second(*fastest)), row.bytes_per_second() * 1e-9,
                       percent(row.bytes_per_second(), limits.bandwidth), row.operations_per_second() * 1e-9,
                       percent(row.operations_per_second(), limits.peak.operations),
                       static_cast<double>(row.peak_memory_bytes) * 1e-6);
  }
  return out;
}

std::string formats_text(const std::vector<BenchResult>& results) {
  std::string out = fmt::format("{:<16}{:>8}", "tokens/s", "MB");
  for (const BenchRow& row : results.front().rows) out += fmt::format("{:>14}", row.test.name());
  out += "\n";
  for (const BenchResult& result : results) {
    const BenchSubject& subject = result.subject;
    out += fmt::format("{:<16}{:>8.1f}", subject.format, static_cast<double>(subject.cost.weight_bytes) * 1e-6);
    for (const BenchRow& row : result.rows) {
      out += fmt::format("{:>14}", speed(row.tokens_per_second(row.median_seconds())));
    }
    out += "\n";
  }
  return out;
}

}  // namespace mobilellm
