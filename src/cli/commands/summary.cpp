// mobilellm summary: how the linear layers of a model are quantized.
#include <algorithm>
#include <optional>
#include <string>

#include "base/error.h"
#include "base/json.h"
#include "cli/args.h"
#include "cli/commands/commands.h"
#include "cli/terminal.h"
#include "model/quant_summary.h"

namespace mobilellm::cli {
namespace {

std::string list_text(const std::vector<int64_t>& values) {
  std::string text;
  for (const int64_t value : values) text += (text.empty() ? "" : ", ") + std::to_string(value);
  return text.empty() ? "none" : text;
}

void print_text(const QuantSummary& summary, size_t n_shown) {
  print(fmt::format("Method: {}\nGroup size: {}\nTotal linear layers: {}\n", summary.method,
                    list_text(summary.group_sizes), summary.n_linear));
  for (const StorageGroup& group : summary.groups) {
    print(printable(
        fmt::format("{}{}: {}\n", group.label, group.is_quantized ? "" : " (not quantized)", group.names.size())));
    for (size_t i = 0; i < std::min(n_shown, group.names.size()); ++i) {
      print(printable(fmt::format("  {}\n", group.names[i])));
    }
  }
  print(printable(fmt::format("Embedding: {}\nBits per weight: {:.3f}\n", summary.embedding, summary.bits_per_weight)));
}

void print_json(const QuantSummary& summary) {
  Json sizes = Json::array();
  for (const int64_t size : summary.group_sizes) sizes.push(size);
  Json groups = Json::array();
  for (const StorageGroup& group : summary.groups) {
    Json names = Json::array();
    for (const std::string& name : group.names) names.push(name);
    groups.push(Json::object()
                    .set("storage", group.label)
                    .set("quantized", group.is_quantized)
                    .set("count", static_cast<int64_t>(group.names.size()))
                    .set("names", std::move(names)));
  }
  print(Json::object()
            .set("method", summary.method)
            .set("group_sizes", std::move(sizes))
            .set("linear_layers", summary.n_linear)
            .set("groups", std::move(groups))
            .set("embedding", summary.embedding)
            .set("bits_per_weight", summary.bits_per_weight)
            .dump_pretty() +
        "\n");
}

}  // namespace

int run_summary(int argc, const char* const* argv) {
  std::string model_path = ".";
  std::optional<std::string> positional_path;
  int64_t n_shown = 3;
  bool is_json = false;
  Args args("summary", "Tells how the linear layers of a model are quantized. Reads headers only.",
            "[--model-path] PATH [flags]");
  args.text("--model-path,--model", "PATH", model_path, "model folder or .gguf file (default: .)");
  args.positional("PATH", positional_path, "the same without the flag");
  args.integer("--show", "N", n_shown, 0, int64_t{1} << 30, "names to show for each width (default: 3)");
  args.flag("--json", is_json, "print everything as one JSON object");
  args.example("mobilellm summary --model-path MODEL --show 5");
  if (!args.parse(argc, argv)) return 0;
  const QuantSummary summary = summarize_quantization(positional_path.value_or(model_path));
  if (is_json) {
    print_json(summary);
  } else {
    print_text(summary, static_cast<size_t>(n_shown));
  }
  return 0;
}

}  // namespace mobilellm::cli
