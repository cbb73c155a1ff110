// mobilellm perplexity: how well a model predicts text.
#include "quality/perplexity.h"

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
#include "quality/measured_model.h"

namespace mobilellm::cli {
namespace {

Json to_json(const TextPerplexity& text) {
  const Estimate perplexity = text.perplexity();
  Json json = Json::object();
  if (!text.path.empty()) json.set("path", text.path);
  return json.set("chunks", text.n_chunks)
      .set("predicted_tokens", text.n_predicted)
      .set("left_out_tokens", text.n_left_out)
      .set("nll", text.nll.mean)
      .set("nll_error", text.nll.error)
      .set("perplexity", perplexity.mean)
      .set("perplexity_error", perplexity.error);
}

void print_row(const TextPerplexity& text, size_t width) {
  const Estimate perplexity = text.perplexity();
  print(printable(fmt::format("{:<{}} {:>7} {:>9} {:>8.4f} {:>7.4f} {:>11.4f} {:>9.4f}\n",
                              text.path.empty() ? "total" : file_name(text.path), width, text.n_chunks,
                              text.n_predicted, text.nll.mean, text.nll.error, perplexity.mean, perplexity.error)));
}

void print_text(const PerplexityReport& report) {
  size_t width = 5;
  for (const TextPerplexity& text : report.texts) width = std::max(width, file_name(text.path).size());
  print(fmt::format("{:<{}} {:>7} {:>9} {:>8} {:>7} {:>11} {:>9}\n", "text", width, "chunks", "predicted", "nll", "+-",
                    "perplexity", "+-"));
  for (const TextPerplexity& text : report.texts) print_row(text, width);
  if (report.texts.size() > 1) print_row(report.total, width);
}

}  // namespace

int run_perplexity(int argc, const char* const* argv) {
  std::string model_path = ".";
  MeasureFlags flags;
  ArithmeticFlags arithmetic;
  Args args("perplexity", "Measures how well a model predicts text, in nats per token and as perplexity.",
            "--model-path PATH --text FILE... [flags]");
  args.text("--model-path,--model", "PATH", model_path, "model folder or .gguf file (default: .)");
  declare_measure(args, flags);
  declare_arithmetic(args, "", "the model's", arithmetic);
  args.example("mobilellm perplexity --model-path MODEL --text a.txt b.jsonl");
  args.note(kMeasureNote);
  if (!args.parse(argc, argv)) return 0;
  check_measure(args, flags);
  const RunnerOptions runner_options = parse_arithmetic(args, "", arithmetic, flags.n_threads);

  MeasureScope scope;
  try {
    const MeasuredModel model = open_measured_model(model_path, scope.loading(runner_options));
    const std::vector<TextSet> sets = read_text_sets(model, nullptr, flags.texts, flags.chunks);
    const PerplexityReport report = measure_perplexity(*model.runner, sets, scope.options(flags));
    scope.end();
    if (!flags.json) {
      print_text(report);
      return 0;
    }
    Json texts = Json::array();
    for (const TextPerplexity& text : report.texts) texts.push(to_json(text));
    print(Json::object()
              .set("model", model.path)
              .set("arithmetic", arithmetic_json(runner_options))
              .set("bits_per_weight", model.bits_per_weight())
              .set("chunk_tokens", flags.chunks.chunk_tokens)
              .set("texts", std::move(texts))
              .set("total", to_json(report.total))
              .dump_pretty() +
          "\n");
    return 0;
  } catch (const Error& error) {
    return scope.failed(error);
  }
}

}  // namespace mobilellm::cli
