// mobilellm inspect: what a model is, each tensor against the expected one, and what is wrong. Reads headers only.
#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/json.h"
#include "cli/args.h"
#include "cli/commands/commands.h"
#include "cli/terminal.h"
#include "model/check.h"
#include "model/loader.h"

namespace mobilellm::cli {
namespace {

constexpr size_t kMaxProblemLines = 8;
constexpr int kKvBytesPerValue = 2;  // The CPU backend keeps keys and values as f16 unless told otherwise.

struct InspectFlags {
  std::string model_path = ".";
  std::optional<int64_t> context;
  bool json = false;
  bool tensors = false;
};

/// What the folder has besides weights.
struct TextReport {
  std::string tokenizer;      // Empty when there is none.
  std::string chat_template;  // Where it comes from; empty when there is none.
  std::vector<int64_t> eos_ids;
  std::vector<std::string> eos_texts;
  std::vector<std::string> problems;
};

void add_text_parts(TextReport& report, const std::shared_ptr<const Tokenizer>& tokenizer,
                    const std::shared_ptr<const ChatTemplate>& chat_template, int vocab_size) {
  if (tokenizer != nullptr) {
    report.tokenizer = tokenizer->description();
    if (vocab_size > 0 && tokenizer->vocab_size() > static_cast<size_t>(vocab_size)) {
      report.problems.push_back(fmt::format("[inspect] the tokenizer has ids up to {}, the model takes 0 to {}",
                                            tokenizer->vocab_size() - 1, vocab_size - 1));
    }
    for (const int64_t id : report.eos_ids) {
      report.eos_texts.emplace_back(tokenizer->token_text(static_cast<TokenId>(id)));
    }
  }
  if (chat_template != nullptr) report.chat_template = chat_template->origin();
}

TextReport read_text_parts(const std::string& path, const ModelCheck& check) {
  TextReport report;
  const int vocab_size = check.spec ? check.spec->vocab_size : 0;
  if (check.spec) report.eos_ids = check.spec->eos_ids;
  try {
    if (check.is_ok()) {
      const LoadedModel model = load_model(path);
      report.eos_ids = model.spec.eos_ids;
      add_text_parts(report, model.tokenizer, model.chat_template, vocab_size);
    } else {
      const LoadedText text = load_text_parts(path);
      add_text_parts(report, text.tokenizer, text.chat_template, vocab_size);
    }
  } catch (const Error& error) {
    report.problems.emplace_back(error.what());
  }
  return report;
}

std::string shape_of(const std::vector<int64_t>& shape) { return shape.empty() ? std::string("-") : shape_text(shape); }

// Distinct values of a property over the layers, e.g. "full x 4, sliding 512 x 18".
template <typename Property>
std::string summarize_layers(const ModelSpec& spec, Property property) {
  std::vector<std::pair<std::string, int>> counts;
  for (const LayerSpec& layer : spec.layers) {
    const std::string value = property(layer);
    auto found = std::find_if(counts.begin(), counts.end(), [&](const auto& entry) { return entry.first == value; });
    if (found == counts.end()) {
      counts.emplace_back(value, 1);
    } else {
      ++found->second;
    }
  }
  std::string out;
  for (const auto& [value, count] : counts) {
    if (!out.empty()) out += ", ";
    out += counts.size() == 1 ? value : fmt::format("{} x {}", value, count);
  }
  return out;
}

std::string window_text(const LayerSpec& layer) {
  switch (layer.window.kind) {
    case AttentionWindow::Kind::kSliding:
      return fmt::format("sliding {}", layer.window.size);
    case AttentionWindow::Kind::kChunked:
      return fmt::format("chunks of {}", layer.window.size);
    case AttentionWindow::Kind::kFull:
      break;
  }
  return "full";
}

std::string rope_text(const ModelSpec& spec, const LayerSpec& layer) {
  if (layer.rope_style == RopeStyle::kNone) return "none";
  const RopeTable& table = spec.rope_tables[static_cast<size_t>(layer.rope_table)];
  std::string text = fmt::format("{} theta {:.6g}", to_string(layer.rope_style), table.theta);
  if (table.scaling != "none") text += " " + table.scaling;
  return text;
}

std::string megabytes(int64_t bytes) { return fmt::format("{:.1f} MB", static_cast<double>(bytes) / 1e6); }

int64_t context_of(const InspectFlags& flags, const ModelSpec& spec) {
  return flags.context.value_or(spec.max_context);
}

void row(std::string_view name, const std::string& value) { print(printable(fmt::format("{:<14}{}\n", name, value))); }

void print_spec(const ModelSpec& spec, const ModelCheck& check) {
  row("architecture", spec.architecture);
  row("layers", fmt::format("{}, d_model {}, d_ff {}", spec.n_layers(), spec.d_model,
                            summarize_layers(spec, [](const LayerSpec& layer) { return std::to_string(layer.d_ff); })));
  row("heads", summarize_layers(spec, [](const LayerSpec& layer) {
        return fmt::format("{} / {} kv, head_dim {}", layer.n_heads, layer.n_kv_heads, layer.head_dim);
      }));
  row("attention", summarize_layers(spec, window_text));
  row("rope", summarize_layers(spec, [&spec](const LayerSpec& layer) { return rope_text(spec, layer); }));
  row("q/k norm", summarize_layers(spec, [](const LayerSpec& layer) { return std::string(to_string(layer.qk_norm)); }));
  row("mlp", check.mlp_reason.starts_with(check.mlp_variant) ? check.mlp_reason
                                                             : check.mlp_variant + " (" + check.mlp_reason + ")");
  row("vocabulary", fmt::format("{}, output {}", spec.vocab_size, spec.is_output_tied ? "tied" : "untied"));
  row("parameters", fmt::format("{} ({:.1f}M)", check.n_parameters, static_cast<double>(check.n_parameters) / 1e6));
  row("weights", fmt::format("{}, {:.2f} bits per weight", megabytes(check.n_weight_bytes), check.bits_per_weight));
}

void print_text(const InspectFlags& flags, const ModelCheck& check, const TextReport& text) {
  row("model", check.path);
  row("format", check.format.empty() ? "none" : check.format);
  if (check.spec) print_spec(*check.spec, check);
  for (const DTypeTotal& total : check.dtypes) {
    row("  " + total.type, fmt::format("{} tensors, {}", total.n_tensors, megabytes(total.n_bytes)));
  }
  row("tokenizer", text.tokenizer.empty() ? "none" : text.tokenizer);
  row("chat template", text.chat_template.empty() ? "none" : text.chat_template);
  std::string eos;
  for (size_t i = 0; i < text.eos_ids.size(); ++i) {
    eos += (eos.empty() ? "" : ", ") + std::to_string(text.eos_ids[i]);
    if (i < text.eos_texts.size() && !text.eos_texts[i].empty()) eos += " " + text.eos_texts[i];
  }
  row("eos", eos.empty() ? "none" : eos);
  if (check.spec) {
    const int64_t context = context_of(flags, *check.spec);
    const int64_t per_token = kv_bytes_per_token(*check.spec, kKvBytesPerValue);
    const int64_t all = kv_bytes(*check.spec, kKvBytesPerValue, context);
    row("memory", fmt::format("{} weights + {} keys and values at {} tokens ({} bytes a token)",
                              megabytes(check.n_weight_bytes), megabytes(all), context, per_token));
  }
  const bool show_all = flags.tensors;
  const auto is_shown = [show_all](const TensorCheck& tensor) {
    return show_all || (tensor.status != TensorStatus::kOk && tensor.status != TensorStatus::kIgnored);
  };
  if (std::any_of(check.tensors.begin(), check.tensors.end(), is_shown)) {
    print(fmt::format("\n{:<12}{:<8}{:<18}{:<18}{}\n", "status", "type", "shape", "expected", "tensor"));
    for (const TensorCheck& tensor : check.tensors) {
      if (!is_shown(tensor)) continue;
      print(printable(fmt::format("{:<11} {:<7} {:<17} {:<17} {}{}\n", to_string(tensor.status),
                                  tensor.type.empty() ? "-" : tensor.type, shape_of(tensor.shape),
                                  shape_of(tensor.expected), tensor.name,
                                  tensor.note.empty() ? "" : "  (" + tensor.note + ")")));
    }
  }
}

Json shape_json(const std::vector<int64_t>& shape) {
  Json::Array array;
  for (const int64_t n : shape) array.emplace_back(n);
  return Json(std::move(array));
}

Json spec_json(const ModelSpec& spec) {
  Json layers = Json::array();
  for (const LayerSpec& layer : spec.layers) {
    layers.push(Json::object()
                    .set("n_heads", layer.n_heads)
                    .set("n_kv_heads", layer.n_kv_heads)
                    .set("head_dim", layer.head_dim)
                    .set("d_ff", layer.d_ff)
                    .set("attention", window_text(layer))
                    .set("rope", rope_text(spec, layer))
                    .set("qk_norm", to_string(layer.qk_norm))
                    .set("mlp", to_string(layer.mlp)));
  }
  return Json::object()
      .set("architecture", spec.architecture)
      .set("vocab_size", spec.vocab_size)
      .set("d_model", spec.d_model)
      .set("n_layers", spec.n_layers())
      .set("max_context", spec.max_context)
      .set("tied_output", spec.is_output_tied)
      .set("layers", std::move(layers));
}

Json report_json(const InspectFlags& flags, const ModelCheck& check, const TextReport& text,
                 const std::vector<std::string>& problems) {
  Json out = Json::object();
  out.set("ok", problems.empty()).set("path", check.path).set("format", check.format);
  if (check.spec) {
    const int64_t context = context_of(flags, *check.spec);
    const int64_t per_token = kv_bytes_per_token(*check.spec, kKvBytesPerValue);
    const int64_t all = kv_bytes(*check.spec, kKvBytesPerValue, context);
    out.set("spec", spec_json(*check.spec))
        .set("mlp_variant", check.mlp_variant)
        .set("mlp_reason", check.mlp_reason)
        .set("parameters", check.n_parameters)
        .set("memory", Json::object()
                           .set("context", context)
                           .set("weight_bytes", check.n_weight_bytes)
                           .set("kv_bytes_per_token", per_token)
                           .set("kv_bytes", all));
  }
  out.set("bits_per_weight", check.bits_per_weight);
  Json dtypes = Json::array();
  for (const DTypeTotal& total : check.dtypes) {
    dtypes.push(Json::object().set("type", total.type).set("tensors", total.n_tensors).set("bytes", total.n_bytes));
  }
  Json tensors = Json::array();
  for (const TensorCheck& tensor : check.tensors) {
    tensors.push(Json::object()
                     .set("name", tensor.name)
                     .set("status", to_string(tensor.status))
                     .set("type", tensor.type)
                     .set("shape", shape_json(tensor.shape))
                     .set("expected", shape_json(tensor.expected))
                     .set("note", tensor.note));
  }
  Json problem_list = Json::array();
  for (const std::string& problem : problems) problem_list.push(problem);
  return out.set("dtypes", std::move(dtypes))
      .set("tokenizer", text.tokenizer.empty() ? Json() : Json(text.tokenizer))
      .set("chat_template", text.chat_template.empty() ? Json() : Json(text.chat_template))
      .set("eos_ids", shape_json(text.eos_ids))
      .set("tensors", std::move(tensors))
      .set("problems", std::move(problem_list));
}

}  // namespace

int run_inspect(int argc, const char* const* argv) {
  InspectFlags flags;
  std::optional<std::string> positional_path;
  Args args("inspect",
            "Tells what a model is and checks its files against what its configuration asks for. Reads "
            "headers only, so it is instant for any size.",
            "[--model-path] PATH [flags]");
  args.text("--model-path,--model", "PATH", flags.model_path, "model folder or .gguf file (default: .)");
  args.positional("PATH", positional_path, "the same without the flag");
  args.flag("--tensors", flags.tensors, "list every tensor, not only those with a problem");
  args.integer("--ctx,--context,-c", "N", flags.context, 1, int64_t{1} << 40,
               "context for the memory estimate (default: the model's)");
  args.flag("--json", flags.json, "print everything as one JSON object");
  args.example("mobilellm inspect --model-path MODEL");
  args.example("mobilellm inspect MODEL --tensors --ctx 4096");
  args.example("mobilellm inspect MODEL --json");
  args.note(
      "Exit status: 0 when all is well, 1 when something is wrong, with one line on standard error for each "
      "problem, up to 8.");
  if (!args.parse(argc, argv)) return 0;
  if (positional_path) flags.model_path = *positional_path;

  const ModelCheck check = check_model(flags.model_path);
  const TextReport text = read_text_parts(flags.model_path, check);
  std::vector<std::string> problems = check.problems;
  for (const std::string& problem : text.problems) {
    // A file that cannot be opened at all is found by both checks.
    if (std::find(problems.begin(), problems.end(), problem) == problems.end()) problems.push_back(problem);
  }
  if (flags.json) {
    print(report_json(flags, check, text, problems).dump_pretty() + "\n");
  } else {
    print_text(flags, check, text);
  }
  flush_stdout();
  for (size_t i = 0; i < std::min(problems.size(), kMaxProblemLines); ++i) print_error(problems[i]);
  if (problems.size() > kMaxProblemLines) {
    print_error(fmt::format("[inspect] and {} more problems; --json lists all", problems.size() - kMaxProblemLines));
  }
  return problems.empty() ? 0 : 1;
}

}  // namespace mobilellm::cli
