// The page: summary, text by text, percentiles, sensitivities, matrices, differing tokens, answers, speed.
#include "quality/html_report.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <utility>

#include "base/files.h"
#include "base/json.h"
#include "base/utf8.h"

namespace mobilellm {
namespace {

constexpr size_t kMaxBars = 60;

constexpr const char* kStyle = R"(
:root{--ink:#1b1f24;--grey:#5b6470;--line:#d8dee4;--bar:#2563eb;--bar2:#b45309;--back:#fff;--card:#f6f8fa}
@media(prefers-color-scheme:dark){:root{--ink:#e6edf3;--grey:#9aa4af;--line:#30363d;--back:#0d1117;--card:#161b22}}
*{box-sizing:border-box}body{margin:0 auto;max-width:1080px;padding:24px;background:var(--back);color:var(--ink);
font:15px/1.5 system-ui,sans-serif}h1{font-size:26px;margin:0}h2{font-size:19px;margin:36px 0 8px}
p{color:var(--grey);margin:4px 0 12px}.cards{display:flex;flex-wrap:wrap;gap:12px;margin:20px 0}
.card{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:10px 16px;min-width:150px}
.card b{display:block;font-size:22px}.card span{color:var(--grey);font-size:13px}
.wide{overflow-x:auto}table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{padding:4px 10px;border-bottom:1px solid var(--line);text-align:right;white-space:nowrap}
th:first-child,td:first-child{text-align:left}th{color:var(--grey);font-weight:600}
td.text{text-align:left;white-space:pre-wrap;overflow-wrap:anywhere;min-width:200px}
.bar{height:11px;background:var(--bar);border-radius:2px;min-width:1px}.bar.b{background:var(--bar2)}
td.bars{width:40%;min-width:160px}.two{display:grid;grid-template-columns:1fr 1fr;gap:12px;margin-bottom:20px}
.two div{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:10px 14px;white-space:pre-wrap;
overflow-wrap:anywhere}.two .ask{grid-column:1/3;background:none;border:0;padding:0;font-weight:600}
footer{margin-top:40px;color:var(--grey);font-size:13px}
)";

std::string megabytes(uint64_t bytes) { return fmt::format("{:.1f} MB", static_cast<double>(bytes) / 1e6); }

// With digits that mean something for values of any size.
std::string number(double value) {
  if (value == 0 || !std::isfinite(value)) return fmt::format("{}", value);
  const double size = std::abs(value);
  if (size >= 100) return fmt::format("{:.1f}", value);
  if (size >= 1) return fmt::format("{:.3f}", value);
  if (size >= 1e-3) return fmt::format("{:.5f}", value);
  return fmt::format("{:.2e}", value);
}

class Page {
 public:
  explicit Page(const QualityReport& report) : report_(report) {}

  std::string write() {
    const std::string title = file_name(report_.target) + ": what quantization changed";
    out_ =
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n<title>" +
        escape_html(title) + "</title><style>" + kStyle + "</style></head><body>\n";
    out_ += "<h1>" + escape_html(title) + "</h1>\n<p>" +
            escape_html(fmt::format("{}, quantized by {}", report_.source, report_.method)) + "</p>\n";
    summary();
    texts();
    percentiles();
    sensitivities();
    sizes();
    matrices();
    flips();
    answers();
    speeds();
    for (const std::string& note : report_.notes) out_ += "<p>" + escape_html("Note: " + note) + "</p>\n";
    out_ += "<footer>" + escape_html(report_.program + " on " + report_.machine) + "</footer>\n</body></html>\n";
    return std::move(out_);
  }

 private:
  void card(const std::string& value, const std::string& label) {
    out_ += "<div class=\"card\"><b>" + escape_html(value) + "</b><span>" + escape_html(label) + "</span></div>\n";
  }

  void section(const char* title, const char* explanation) {
    out_ += fmt::format("<h2>{}</h2>\n<p>{}</p>\n", title, explanation);
  }

  void begin_table(std::initializer_list<const char*> heads) {
    out_ += "<div class=\"wide\"><table><tr>";
    for (const char* head : heads) out_ += fmt::format("<th>{}</th>", head);
    out_ += "</tr>\n";
  }
  void end_table() { out_ += "</table></div>\n"; }

  void row(std::initializer_list<std::string> cells) {
    out_ += "<tr>";
    for (const std::string& cell : cells) out_ += "<td>" + escape_html(cell) + "</td>";
    out_ += "</tr>\n";
  }

  // A label, a number and a bar of `share` of the width.
  void bar_row(const std::string& label, const std::string& value, double share, const char* color = "") {
    const double width = std::isfinite(share) ? std::clamp(share, 0.0, 1.0) * 100 : 0.0;
    out_ += "<tr><td>" + escape_html(label) + "</td><td>" + escape_html(value) +
            fmt::format("</td><td class=\"bars\"><div class=\"bar{}\" style=\"width:{:.2f}%\"></div></td></tr>\n",
                        color, width);
  }

  void summary() {
    const TextComparison& total = report_.comparison.total;
    out_ += "<div class=\"cards\">\n";
    card(fmt::format("{:.3f}", report_.target_bits),
         fmt::format("bits per weight, before {:.3f}", report_.source_bits));
    card(megabytes(report_.target_bytes), fmt::format("of tensors, before {}", megabytes(report_.source_bytes)));
    if (total.n_positions > 0) {
      card(number(total.kl.mean), fmt::format("mean KL, nats, +- {}", number(total.kl.error)));
      card(fmt::format("{:.4f}", total.ppl_ratio().mean), "times the perplexity");
      card(fmt::format("{:.1f} %", 100 * total.top1_agreement.mean), "same most likely token");
    }
    for (const ReportSpeed& speed : report_.speeds) {
      card(fmt::format("{:.0f} tok/s", speed.after), fmt::format("{}, before {:.0f}", speed.test, speed.before));
    }
    out_ += "</div>\n";
  }

  void texts() {
    if (report_.comparison.texts.empty()) return;
    section(
        "Texts",
        "Both models read the same tokens in f32 arithmetic; their distributions of the next token are compared over "
        "the whole vocabulary. Errors are standard errors.");
    begin_table({"text", "positions", "KL", "+-", "p99", "perplexity before", "after", "ratio", "+-", "same top"});
    for (const TextComparison& text : report_.comparison.texts) text_row(file_name(text.path), text);
    if (report_.comparison.texts.size() > 1) text_row("all", report_.comparison.total);
    end_table();
  }

  void text_row(const std::string& name, const TextComparison& text) {
    const Estimate ratio = text.ppl_ratio();
    row({name, fmt::format("{}", text.n_positions), number(text.kl.mean), number(text.kl.error), number(text.kl_p99),
         number(exponential(text.nll_a).mean), number(exponential(text.nll_b).mean), fmt::format("{:.4f}", ratio.mean),
         fmt::format("{:.4f}", ratio.error), fmt::format("{:.2f} %", 100 * text.top1_agreement.mean)});
  }

  void percentiles() {
    const TextComparison& total = report_.comparison.total;
    if (total.n_positions == 0) return;
    section("KL by share of positions", "Most tokens change little; the last percents carry the damage.");
    begin_table({"of the positions", "KL below", ""});
    const std::pair<const char*, double> rows[] = {
        {"50 %", total.kl_median}, {"90 %", total.kl_p90}, {"99 %", total.kl_p99}, {"100 %", total.kl_max}};
    for (const auto& [share, value] : rows) bar_row(share, number(value), value / total.kl_max);
    end_table();
  }

  void sensitivities() {
    const bool is_measured = std::any_of(report_.matrices.begin(), report_.matrices.end(),
                                         [](const ReportMatrix& matrix) { return matrix.rounding_loss.has_value(); });
    const auto value = [&](const ReportMatrix& matrix) {
      return is_measured ? matrix.rounding_loss.value_or(0) : matrix.relative_error;
    };
    std::vector<const ReportMatrix*> order;
    for (const ReportMatrix& matrix : report_.matrices) order.push_back(&matrix);
    std::stable_sort(order.begin(), order.end(),
                     [&](const ReportMatrix* a, const ReportMatrix* b) { return value(*a) > value(*b); });
    if (order.empty()) return;
    if (is_measured) {
      section("Sensitivity", "KL that each matrix alone causes when it is rounded to 4 bits, the largest first.");
    } else {
      section("Errors",
              "Error of each matrix relative to its outputs (without calibration: to its weights), the largest "
              "first.");
    }
    begin_table({"matrix", is_measured ? "KL" : "error", ""});
    const size_t n = std::min(order.size(), kMaxBars);
    for (size_t i = 0; i < n; ++i) {
      bar_row(order[i]->name, number(value(*order[i])), value(*order[i]) / value(*order[0]), " b");
    }
    end_table();
    if (n < order.size()) out_ += fmt::format("<p>and {} smaller ones, in the table below</p>\n", order.size() - n);
  }

  void sizes() {
    std::map<std::string, std::pair<int64_t, uint64_t>> by_storage;
    uint64_t most = 0;
    for (const ReportMatrix& matrix : report_.matrices) {
      auto& [n_values, n_bytes] = by_storage[matrix.storage];
      n_values += matrix.n_values;
      n_bytes += matrix.n_bytes;
      most = std::max(most, n_bytes);
    }
    if (by_storage.empty()) return;
    section("Storage", "Bytes of all matrices by how they are stored.");
    begin_table({"storage", "size", ""});
    for (const auto& [storage, total] : by_storage) {
      bar_row(fmt::format("{} ({:.1f}M weights)", storage, static_cast<double>(total.first) / 1e6),
              megabytes(total.second),
              static_cast<double>(total.second) / static_cast<double>(std::max<uint64_t>(most, 1)));
    }
    end_table();
  }

  void matrices() {
    if (report_.matrices.empty()) return;
    const bool has_loss = std::any_of(report_.matrices.begin(), report_.matrices.end(),
                                      [](const ReportMatrix& matrix) { return matrix.predicted_loss.has_value(); });
    section("Matrices", "Bits are those of a weight with its share of scales and biases.");
    begin_table({"matrix", "storage", "weights", "size", "bits", "error", has_loss ? "predicted KL" : ""});
    for (const ReportMatrix& matrix : report_.matrices) {
      const double bits =
          static_cast<double>(matrix.n_bytes) * 8 / static_cast<double>(std::max<int64_t>(matrix.n_values, 1));
      row({matrix.name, matrix.storage, fmt::format("{}", matrix.n_values), megabytes(matrix.n_bytes),
           fmt::format("{:.3f}", bits), number(matrix.relative_error),
           matrix.predicted_loss ? number(*matrix.predicted_loss) : ""});
    }
    end_table();
  }

  void flips() {
    if (report_.flips.empty()) return;
    section("Where it says something else",
            "Positions whose most likely token changed, those first where the float model "
            "was surest.");
    begin_table({"text so far", "before", "its share", "after", "after", "its share", "before"});
    for (size_t i = 0; i < report_.flips.size(); ++i) {
      const Flip& flip = report_.comparison.flips[i];
      const FlipText& text = report_.flips[i];
      out_ += "<tr><td class=\"text\">" + escape_html(text.before) + "</td>";
      const std::string cells[] = {text.text_a, fmt::format("{:.3f}", flip.a_of_a), fmt::format("{:.3f}", flip.a_of_b),
                                   text.text_b, fmt::format("{:.3f}", flip.b_of_b), fmt::format("{:.3f}", flip.b_of_a)};
      for (const std::string& cell : cells) out_ += "<td>" + escape_html(cell) + "</td>";
      out_ += "</tr>\n";
    }
    end_table();
  }

  void answers() {
    if (report_.answers.empty()) return;
    section("Answers", "The beginning of greedy answers: before on the left, after on the right.");
    for (const ReportAnswer& answer : report_.answers) {
      out_ += "<div class=\"two\"><div class=\"ask\">" + escape_html(answer.prompt) + "</div><div>" +
              escape_html(answer.before) + "</div><div>" + escape_html(answer.after) + "</div></div>\n";
    }
  }

  void speeds() {
    if (report_.speeds.empty()) return;
    section("Speed on this machine", "Tokens per second; pp reads a prompt, tg generates.");
    begin_table({"test", "before", "after", "times"});
    for (const ReportSpeed& speed : report_.speeds) {
      row({speed.test, fmt::format("{:.1f}", speed.before), fmt::format("{:.1f}", speed.after),
           fmt::format("{:.2f}", speed.before > 0 ? speed.after / speed.before : 0.0)});
    }
    end_table();
  }

  const QualityReport& report_;
  std::string out_;
};

}  // namespace

std::string escape_html(std::string_view text) {
  const std::string whole = repair_utf8(text);
  std::string out;
  out.reserve(whole.size());
  for (const char c : whole) {
    switch (c) {
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '&':
        out += "&amp;";
        break;
      case '"':
        out += "&quot;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default: {
        const auto byte = static_cast<unsigned char>(c);
        out += (byte < 0x20 && c != '\n' && c != '\t') || byte == 0x7F ? ' ' : c;
      }
    }
  }
  return out;
}

std::string quality_report_html(const QualityReport& report) { return Page(report).write(); }

std::string quality_report_json(const QualityReport& report) {
  Json matrices = Json::array();
  for (const ReportMatrix& matrix : report.matrices) {
    Json row = Json::object()
                   .set("name", matrix.name)
                   .set("storage", matrix.storage)
                   .set("values", matrix.n_values)
                   .set("bytes", matrix.n_bytes)
                   .set("relative_error", matrix.relative_error);
    if (matrix.predicted_loss) row.set("predicted_loss", *matrix.predicted_loss);
    if (matrix.rounding_loss) row.set("rounding_loss", *matrix.rounding_loss);
    matrices.push(std::move(row));
  }
  Json answers = Json::array();
  for (const ReportAnswer& answer : report.answers) {
    answers.push(Json::object().set("prompt", answer.prompt).set("before", answer.before).set("after", answer.after));
  }
  Json speeds = Json::array();
  for (const ReportSpeed& speed : report.speeds) {
    speeds.push(Json::object().set("test", speed.test).set("before", speed.before).set("after", speed.after));
  }
  Json notes = Json::array();
  for (const std::string& note : report.notes) notes.push(note);
  Json json = Json::object()
                  .set("source", report.source)
                  .set("target", report.target)
                  .set("method", report.method)
                  .set("program", report.program)
                  .set("machine", report.machine)
                  .set("source_bits_per_weight", report.source_bits)
                  .set("target_bits_per_weight", report.target_bits)
                  .set("source_bytes", report.source_bytes)
                  .set("target_bytes", report.target_bytes);
  add_comparison(json, report.comparison, report.flips);
  json.set("matrices", std::move(matrices))
      .set("answers", std::move(answers))
      .set("tokens_per_second", std::move(speeds))
      .set("notes", std::move(notes));
  return repair_utf8(json.dump_pretty()) + "\n";  // Paths may be any bytes.
}

}  // namespace mobilellm
