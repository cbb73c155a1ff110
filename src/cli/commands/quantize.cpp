// mobilellm quantize: a model in fewer bits.
#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/json.h"
#include "cli/args.h"
#include "cli/build_info.h"
#include "cli/commands/commands.h"
#include "cli/quantize_report.h"
#include "cli/terminal.h"
#include "quant/quantize_model.h"

namespace mobilellm::cli {
namespace {

struct QuantizeFlags {
  std::optional<std::string> model_path;
  std::optional<std::string> positional_path;
  std::optional<std::string> output;
  std::optional<int64_t> bits;
  std::optional<int64_t> group_size;
  std::string mode = "affine";
  std::string type;
  std::string recipe;
  std::optional<double> target_bpw;
  std::vector<std::string> overrides;
  std::string method;
  std::optional<double> learning_rate;
  int64_t seed = 0;
  int64_t n_threads = 0;
  bool json = false;
};

void read_type(const Args& args, const std::string& name, QuantizeOptions& options) {
  const std::vector<DType> types = quantized_block_types();
  const auto type = std::find_if(types.begin(), types.end(), [&](DType each) { return name == dtype_name(each); });
  if (type != types.end()) {
    options.block_type = *type;
    return;
  }
  options.recipe = find_recipe(name);
  if (options.recipe != nullptr && options.recipe->format == ModelFormat::kGguf) return;
  std::string known;
  for (const DType each : types) known += fmt::format("{}, ", dtype_name(each));
  args.fail_usage(fmt::format("--type: got '{}', expected one of {}{}", name, known, recipe_names(ModelFormat::kGguf)));
}

void choose_format(const Args& args, const QuantizeFlags& flags, QuantizeOptions& options) {
  const bool is_gguf = options.target.ends_with(".gguf");
  options.format = is_gguf ? ModelFormat::kGguf : ModelFormat::kMlx;
  if (flags.target_bpw && (flags.bits || !flags.type.empty() || !flags.recipe.empty() || flags.mode != "affine")) {
    args.fail_usage("--target-bpw chooses bits itself; leave out --bits, --type, --recipe and --mode");
  }
  options.target_bpw = flags.target_bpw;
  if (flags.target_bpw && flags.group_size) options.target_group = static_cast<int>(*flags.group_size);
  if (is_gguf) {
    if (flags.bits || flags.group_size || flags.mode != "affine" || !flags.recipe.empty()) {
      args.fail_usage("--bits, --group-size, --mode and --recipe are for mlx-lm folders; a GGUF file takes --type");
    }
    if (flags.target_bpw) return;
    if (flags.type.empty()) args.fail_usage("--type is missing: which GGUF type, such as Q4_K_M, or --target-bpw");
    read_type(args, flags.type, options);
    return;
  }
  if (!flags.type.empty()) args.fail_usage("--type is for GGUF: end the name of --output in .gguf");
  if (!flags.recipe.empty()) {
    options.recipe = find_recipe(flags.recipe);
    if (options.recipe == nullptr || options.recipe->format != ModelFormat::kMlx) {
      args.fail_usage(
          fmt::format("--recipe: got '{}', expected one of {}", flags.recipe, recipe_names(ModelFormat::kMlx)));
    }
    if (flags.bits || flags.group_size || flags.mode != "affine") {
      args.fail_usage("--recipe chooses bits itself; leave out --bits, --group-size and --mode");
    }
  }
  const std::optional<QuantMode> mode = find_quant_mode(flags.mode);
  if (!mode) args.fail_usage(fmt::format("--mode: got '{}', expected affine, mxfp4, nvfp4 or mxfp8", flags.mode));
  const int usual_bits = *mode == QuantMode::kMxfp8 ? 8 : 4;
  const int usual_group = *mode == QuantMode::kAffine ? 64 : *mode == QuantMode::kNvfp4 ? 16 : 32;
  options.params = {*mode, static_cast<int>(flags.bits.value_or(usual_bits)),
                    static_cast<int>(flags.group_size.value_or(usual_group))};
}

double bits_per_weight(const ConvertReport& report) {
  return static_cast<double>(report.n_bytes) * 8 / static_cast<double>(report.n_parameters);
}

void print_text(const QuantizeReport& report, const QuantizeOptions& options) {
  for (const std::string& note : report.conversion.notes) {
    print_status(printable(fmt::format("mobilellm: note: {}\n", note)));
  }
  const QuantizedMatrix* worst = nullptr;
  for (const QuantizedMatrix& matrix : report.matrices) {
    if (matrix.storage == "float") {
      print_status(printable(fmt::format(
          "mobilellm: note: {} stays float, by an override or because its rows do not divide into groups or blocks\n",
          matrix.name)));
    }
    if (worst == nullptr || matrix.relative_error > worst->relative_error) worst = &matrix;
  }
  if (worst != nullptr) {
    print(printable(fmt::format("largest error: {:.3g} of the {} ({}, {})\n", worst->relative_error,
                                report.n_calibration_tokens > 0 ? "outputs" : "weights", worst->name, worst->storage)));
  }
  if (report.distillation) {
    print(fmt::format("KL on held-out text: {:.4f} before distillation, {:.4f} after (best at step {})\n",
                      report.distillation->before, report.distillation->after, report.distillation->best_step));
  }
  print(
      printable(fmt::format("saved {} ({} matrices by {}, {:.1f} MB, {:.3f} bits per weight)\n", options.target,
                            report.matrices.size(), quant_method_name(options.method),
                            static_cast<double>(report.conversion.n_bytes) / 1e6, bits_per_weight(report.conversion))));
}

void print_json(const QuantizeReport& report, const QuantizeOptions& options) {
  Json matrices = Json::array();
  for (const QuantizedMatrix& matrix : report.matrices) {
    matrices.push(Json::object()
                      .set("name", matrix.name)
                      .set("storage", matrix.storage)
                      .set("values", matrix.n_values)
                      .set("relative_error", matrix.relative_error)
                      .set("predicted_kl", matrix.predicted_loss)
                      .set("rounding_kl", matrix.rounding_loss));
  }
  Json notes = Json::array();
  for (const std::string& note : report.conversion.notes) notes.push(note);
  Json distillation;
  if (report.distillation) {
    distillation = Json::object()
                       .set("kl_before", report.distillation->before)
                       .set("kl_after", report.distillation->after)
                       .set("best_step", report.distillation->best_step);
  }
  print(Json::object()
            .set("path", options.target)
            .set("method", quant_method_name(options.method))
            .set("calibration_tokens", report.n_calibration_tokens)
            .set("parameters", report.conversion.n_parameters)
            .set("bytes", report.conversion.n_bytes)
            .set("bits_per_weight", bits_per_weight(report.conversion))
            .set("distillation", std::move(distillation))
            .set("matrices", std::move(matrices))
            .set("notes", std::move(notes))
            .dump_pretty() +
        "\n");
}

void declare_flags(Args& args, QuantizeFlags& flags, QuantizeOptions& options) {
  args.text("--model-path,--hf-path,--model", "PATH", flags.model_path, "model folder or .gguf file to quantize");
  args.positional("PATH", flags.positional_path, "the same without the flag");
  args.text("--output,--mlx-path,-o", "PATH", flags.output, "folder or .gguf file to write; must not exist");
  args.section("Storage");
  args.integer("--bits,--q-bits", "N", flags.bits, 2, 8, "bits of a weight: 2, 3, 4, 5, 6 or 8 (default: 4)");
  args.integer("--group-size,--q-group-size", "N", flags.group_size, 16, 128,
               "weights that share a scale: 32, 64 or 128 (default: 64)");
  args.text("--mode,--q-mode", "MODE", flags.mode, "affine, mxfp4, nvfp4 or mxfp8 (default: affine)");
  args.text("--type", "TYPE", flags.type,
            "GGUF type of all matrices, such as Q4_0 or IQ4_NL, or a mixture such as Q4_K_M");
  args.text("--recipe,--quant-predicate", "NAME", flags.recipe,
            "a mixture of mlx-lm: mixed_2_6, mixed_3_4, mixed_3_6 or mixed_4_6");
  args.number("--target-bpw", "X", flags.target_bpw, 1.0, 32.0,
              "most bits per weight of the whole result; each matrix gets the bits and groups (GGUF: the type) with "
              "which the model is predicted to lose least");
  args.list("--override", "PATTERN=SETTING", flags.overrides,
            "matrices whose names match (* and ?) get BITS, BITS:GROUP, a GGUF type, or float; may be given again, the "
            "last match counts");
  args.section("Method");
  args.text("--method", "METHOD", flags.method,
            "rtn rounds; fit fits scales to the inputs that calibration sees; gptq also lets weights of a row make up "
            "for each other's errors; yaqa rows too, by gradients; dwq then trains scales and biases against the float "
            "model; these three affine only (default: rtn; with --target-bpw dwq, GGUF fit)");
  args.list("--calibration", "FILE", options.calibration,
            "text for all methods but rtn, or .jsonl with a key \"text\"; may be given again (default: a text of the "
            "program's own: problems with solutions, code, prose)");
  args.integer("--calibration-tokens", "N", options.calibration_tokens, 1, int64_t{1} << 30,
               "most tokens of calibration (default: 65536; 32768 for models above 400M parameters)");
  args.integer("--steps", "N", options.distillation.n_steps, 1, int64_t{1} << 20,
               "steps of dwq, of 2048 tokens of the calibration text each (default: what a quarter of an hour on "
               "two cores allows, at most 150; none for models above 450M parameters)");
  args.number("--learning-rate", "X", flags.learning_rate, 1e-6, 1.0,
              "how far a step of dwq moves weights at most, in units of their scale (default: 0.006)");
  args.integer("--seed", "N", flags.seed, 0, int64_t{1} << 62,
               "of what yaqa and --target-bpw sample and of the order of the text in dwq (default: 0)");
  args.integer("--threads", "N", flags.n_threads, 0, 1024, "threads (default: every core)");
}

void declare_output(Args& args, QuantizeFlags& flags) {
  args.section("Output");
  args.flag("--json", flags.json, "print the result, matrix by matrix, as one JSON object");
  args.example("mobilellm quantize MODEL --output OUT --bits 4 --group-size 64");
  args.example("mobilellm quantize MODEL -o OUT --bits 3 --method gptq --calibration text.txt");
  args.example("mobilellm quantize MODEL -o OUT --target-bpw 4.5 --calibration text.txt");
  args.example("mobilellm quantize MODEL -o OUT.gguf --type Q4_K_M");
}

// What the flags mean together.
void finish_options(Args& args, QuantizeFlags& flags, QuantizeOptions& options) {
  if (flags.positional_path) flags.model_path = flags.positional_path;
  if (!flags.model_path) args.fail_usage("the model to quantize is missing: --model-path PATH");
  if (!flags.output) args.fail_usage("the target is missing: --output PATH");
  options.source = *flags.model_path;
  options.target = *flags.output;
  options.n_threads = static_cast<int>(flags.n_threads);
  options.seed = static_cast<uint64_t>(flags.seed);
  options.distillation.seed = static_cast<uint64_t>(flags.seed);
  if (flags.learning_rate) options.distillation.grid_rate = *flags.learning_rate;
  choose_format(args, flags, options);
  const bool is_gguf = options.format == ModelFormat::kGguf;
  if (flags.method.empty()) flags.method = !flags.target_bpw ? "rtn" : is_gguf ? "fit" : "dwq";
  options.method = parse_quant_method(flags.method);
  for (const std::string& text : flags.overrides) {
    options.overrides.push_back(parse_override(text, options.format, options.params.group_size));
  }
}

// Quantizes with a progress bar, and writes the report that was asked for. Nothing when the user stopped it.
std::optional<QuantizeReport> run_shown(QuantizeOptions& options, const ReportFlags& report_flags) {
  const CancelScope scope;
  std::optional<ProgressBar> bar;
  std::string shown_stage;
  options.on_progress = [&](const char* stage, double fraction) {
    if (shown_stage != stage) {
      if (bar) bar->clear();
      bar.emplace(stage);
      shown_stage = stage;
    }
    bar->update(fraction);
  };
  options.cancel = &CancelScope::flag();
  options.program = build_identity();
  try {
    QuantizeReport report = quantize_model(options);
    if (bar) bar->clear();
    if (!report_flags.path.empty()) write_quality_report(report_flags, options, report);
    return report;
  } catch (const Error& error) {
    if (bar) bar->clear();
    if (error.code() != ErrorCode::kCancelled) throw;
    print_error(error.what());
    return std::nullopt;
  }
}

}  // namespace

int run_quantize(int argc, const char* const* argv) {
  QuantizeFlags flags;
  QuantizeOptions options;
  ReportFlags report_flags;
  Args args("quantize",
            "Writes a model in fewer bits, embedding and output table included: an mlx-lm folder, or a GGUF file. The "
            "target appears only when it is complete. A run with calibration that was interrupted continues when the "
            "same command is run again.",
            "[--model-path] PATH --output PATH [flags]");
  declare_flags(args, flags, options);
  declare_report(args, report_flags);
  declare_output(args, flags);
  if (!args.parse(argc, argv)) return 0;
  finish_options(args, flags, options);
  check_report(args, report_flags);
  const std::optional<QuantizeReport> report = run_shown(options, report_flags);
  if (!report) return CancelScope::requested_status();
  if (flags.json) {
    print_json(*report, options);
  } else {
    print_text(*report, options);
  }
  return 0;
}

}  // namespace mobilellm::cli
