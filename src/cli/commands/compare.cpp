// mobilellm compare: how far one model departs from another on text.
#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/files.h"
#include "base/json.h"
#include "cli/args.h"
#include "cli/commands/commands.h"
#include "cli/measure_flags.h"
#include "cli/terminal.h"
#include "quality/comparison.h"
#include "quality/comparison_json.h"
#include "quality/measured_model.h"

namespace mobilellm::cli {
namespace {

void print_row(const TextComparison& text, size_t width) {
  const Estimate ratio = text.ppl_ratio();
  print(printable(fmt::format("{:<{}} {:>9} {:>9.5f} {:>8.5f} {:>8.4f} {:>9.3f} {:>9.3f} {:>7.4f} {:>7.4f} {:>6.2f}%\n",
                              text.path.empty() ? "total" : file_name(text.path), width, text.n_positions, text.kl.mean,
                              text.kl.error, text.kl_p99, exponential(text.nll_a).mean, exponential(text.nll_b).mean,
                              ratio.mean, ratio.error, 100 * text.top1_agreement.mean)));
}

// One line, the end of what came before.
std::string one_line(std::string text, size_t max_bytes) {
  text = printable(text);
  for (char& c : text) {
    if (c == '\n' || c == '\t') c = ' ';
  }
  if (text.size() <= max_bytes) return text;
  size_t begin = text.size() - max_bytes;
  while (begin < text.size() && (static_cast<unsigned char>(text[begin]) & 0xC0U) == 0x80U) ++begin;
  return "..." + text.substr(begin);
}

void print_text(const ComparisonReport& report, const std::vector<FlipText>& flips) {
  size_t width = 5;
  for (const TextComparison& text : report.texts) width = std::max(width, file_name(text.path).size());
  print(fmt::format("{:<{}} {:>9} {:>9} {:>8} {:>8} {:>9} {:>9} {:>7} {:>7} {:>7}\n", "text", width, "positions", "KL",
                    "+-", "KL p99", "ppl A", "ppl B", "ratio", "+-", "top-1"));
  for (const TextComparison& text : report.texts) print_row(text, width);
  if (report.texts.size() > 1) print_row(report.total, width);
  print(fmt::format("\nthe most likely token differs at {} of {} positions{}\n", report.n_flips,
                    report.total.n_positions, flips.empty() ? "" : "; where A was surest:"));
  for (size_t i = 0; i < flips.size(); ++i) {
    const Flip& flip = report.flips[i];
    print(fmt::format("\n{}\n  A: '{}' {:.3f} (B: {:.3f})   B: '{}' {:.3f} (A: {:.3f})\n",
                      one_line(flips[i].before, 240), one_line(flips[i].text_a, 40), flip.a_of_a, flip.a_of_b,
                      one_line(flips[i].text_b, 40), flip.b_of_b, flip.b_of_a));
  }
}

Json model_json(const MeasuredModel& model, const RunnerOptions& options) {
  return Json::object()
      .set("path", model.path)
      .set("arithmetic", arithmetic_json(options))
      .set("bytes", model.n_bytes)
      .set("parameters", model.n_parameters)
      .set("bits_per_weight", model.bits_per_weight());
}

}  // namespace

int run_compare(int argc, const char* const* argv) {
  std::optional<std::string> path_a, path_b;
  MeasureFlags flags;
  ArithmeticFlags flags_a, flags_b;
  int64_t max_flips = 5;
  Args args("compare",
            "Measures how far model B departs from model A, the reference, on text: KL divergence of what they say "
            "next, perplexity, and how often their most likely token is the same.",
            "A B --text FILE... [flags]");
  args.positional("A", path_a, "the reference: model folder or .gguf file");
  args.positional("B", path_b, "the other model, with the same tokenizer");
  declare_measure(args, flags);
  args.integer("--flips", "N", max_flips, 0, 10000, "differing tokens to show with their context (default: 5)");
  args.section("Arithmetic");
  declare_arithmetic(args, "a-", "A's", flags_a);
  declare_arithmetic(args, "b-", "B's", flags_b);
  args.example("mobilellm compare MODEL QUANTIZED --text a.txt b.txt");
  args.example("mobilellm compare MODEL MODEL --b-kv q8 --text a.txt");
  args.note(kMeasureNote);
  args.note("A and B may be the same model with different arithmetic. KL is KL(A || B) in nats per position.");
  if (!args.parse(argc, argv)) return 0;
  if (!path_a || !path_b) args.fail_usage(path_a ? "model B is missing" : "models A and B are missing");
  check_measure(args, flags);
  const RunnerOptions options_a = parse_arithmetic(args, "a-", flags_a, flags.n_threads);
  const RunnerOptions options_b = parse_arithmetic(args, "b-", flags_b, flags.n_threads);

  MeasureScope scope;
  try {
    const MeasuredModel a = open_measured_model(*path_a, scope.loading(options_a));
    const MeasuredModel b = open_measured_model(*path_b, scope.loading(options_b));
    const std::vector<TextSet> sets = read_text_sets(a, &b, flags.texts, flags.chunks);
    CompareOptions options;
    static_cast<MeasureOptions&>(options) = scope.options(flags);
    options.max_flips = static_cast<size_t>(max_flips);
    const ComparisonReport report = compare_models(*a.runner, *b.runner, sets, options);
    scope.end();
    const std::vector<FlipText> flips = flip_texts(report, sets, *a.text.tokenizer);
    if (flags.json) {
      Json json = Json::object()
                      .set("a", model_json(a, options_a))
                      .set("b", model_json(b, options_b))
                      .set("chunk_tokens", flags.chunks.chunk_tokens);
      add_comparison(json, report, flips);
      print(json.dump_pretty() + "\n");
    } else {
      print(printable(fmt::format("A: {} ({:.3f} bits per weight, {})\nB: {} ({:.3f} bits per weight, {})\n\n", a.path,
                                  a.bits_per_weight(), arithmetic_text(options_a), b.path, b.bits_per_weight(),
                                  arithmetic_text(options_b))));
      print_text(report, flips);
    }
    return 0;
  } catch (const Error& error) {
    return scope.failed(error);
  }
}

}  // namespace mobilellm::cli
