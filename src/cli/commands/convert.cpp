// mobilellm convert: one model format into another.
#include "convert/convert.h"

#include <cmath>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/json.h"
#include "cli/args.h"
#include "cli/build_info.h"
#include "cli/commands/commands.h"
#include "cli/terminal.h"
#include "quality/measured_model.h"
#include "quality/perplexity.h"
#include "quant/default_text.h"
#include "quant/quantize_model.h"

namespace mobilellm::cli {
namespace {

struct ConvertFlags {
  std::optional<std::string> model_path;
  std::optional<std::string> positional_path;
  std::optional<std::string> mlx_path;
  std::optional<std::string> output;
  std::string to;
  std::string dtype;
  std::string max_shard_size;
  bool dequantize = false;
  bool dynamic_quant = false;
  bool report_ppl = false;
  std::optional<double> target_bpw;
  std::optional<int64_t> group_size;
  std::vector<std::string> calibration;
  bool json = false;
};

std::optional<DType> read_dtype(const Args& args, const std::string& name) {
  constexpr std::pair<const char*, DType> kNames[] = {{"f32", DType::kF32},   {"float32", DType::kF32},
                                                      {"f16", DType::kF16},   {"float16", DType::kF16},
                                                      {"bf16", DType::kBF16}, {"bfloat16", DType::kBF16}};
  if (name.empty()) return std::nullopt;
  for (const auto& [known, dtype] : kNames) {
    if (name == known) return dtype;
  }
  args.fail_usage(fmt::format("--dtype: got '{}', expected f32, f16 or bf16", name));
}

// "5GB", "500MB", "1.5 GiB" or bytes.
std::optional<size_t> read_size(const Args& args, const std::string& text) {
  if (text.empty()) return std::nullopt;
  constexpr std::pair<std::string_view, double> kUnits[] = {{"", 1},
                                                            {"B", 1},
                                                            {"KB", 1e3},
                                                            {"MB", 1e6},
                                                            {"GB", 1e9},
                                                            {"KiB", 1024},
                                                            {"MiB", 1024.0 * 1024},
                                                            {"GiB", 1024.0 * 1024 * 1024}};
  size_t n_digits = 0;
  double number = -1;
  try {
    number = std::stod(text, &n_digits);
  } catch (const std::exception&) {
    number = -1;
  }
  std::string unit = text.substr(n_digits);
  while (unit.starts_with(' ')) unit.erase(0, 1);
  for (const auto& [name, factor] : kUnits) {
    if (unit == name && number * factor >= 1 && number * factor < 1e18) return static_cast<size_t>(number * factor);
  }
  args.fail_usage(fmt::format("--max-shard-size: got '{}', expected a size such as 500MB or 5GB", text));
}

void choose_target(const Args& args, const ConvertFlags& flags, ConvertOptions& options) {
  if (flags.mlx_path && flags.output) args.fail_usage("--mlx-path and --output name two targets; give one");
  const std::optional<ModelFormat> wanted = find_model_format(flags.to);
  if (!flags.to.empty() && !wanted) {
    args.fail_usage(fmt::format("--to: got '{}', expected hf, mlx or gguf", flags.to));
  }
  if (flags.mlx_path) {
    if (wanted && *wanted != ModelFormat::kMlx) args.fail_usage("--mlx-path writes mlx; use --output with --to");
    options.target = *flags.mlx_path;
    options.format = ModelFormat::kMlx;
    return;
  }
  if (!flags.output) args.fail_usage("the target is missing: --mlx-path DIR, or --output PATH with --to");
  options.target = *flags.output;
  if (!wanted && !options.target.ends_with(".gguf")) {
    args.fail_usage("--to is missing: hf, mlx or gguf (a target that ends in .gguf needs none)");
  }
  options.format = wanted.value_or(ModelFormat::kGguf);
}

std::string megabytes(int64_t bytes) { return fmt::format("{:.1f} MB", static_cast<double>(bytes) / 1e6); }

double bits_per_weight(const ConvertReport& report) {
  return static_cast<double>(report.n_bytes) * 8 / static_cast<double>(report.n_parameters);
}

void print_text(const ConvertReport& report, const ConvertOptions& options) {
  constexpr size_t kMaxShown = 8;
  for (const std::string& note : report.notes) print_status(printable(fmt::format("mobilellm: note: {}\n", note)));
  if (!report.changed.empty()) {
    const ChangedTensor* worst = &report.changed.front();
    for (const ChangedTensor& tensor : report.changed) {
      if (tensor.relative_error > worst->relative_error) worst = &tensor;
    }
    print_status(printable(fmt::format(
        "mobilellm: note: {} tensors were rounded, as no type of the target holds their values; the largest error is "
        "{:.3g} of the values' root mean square ({}, {} to {})\n",
        report.changed.size(), worst->relative_error, worst->name, worst->from, worst->to)));
    for (size_t i = 0; i < std::min(kMaxShown, report.changed.size()); ++i) {
      const ChangedTensor& tensor = report.changed[i];
      print(printable(fmt::format("rounded {} from {} to {}: error {:.3g}, at most {:.3g}\n", tensor.name, tensor.from,
                                  tensor.to, tensor.relative_error, tensor.max_error)));
    }
    if (report.changed.size() > kMaxShown) print(fmt::format("... and {} more\n", report.changed.size() - kMaxShown));
  }
  print(printable(fmt::format("saved {} ({}, {} tensors, {}, {:.2f} bits per weight)\n", options.target,
                              model_format_name(options.format), report.n_tensors, megabytes(report.n_bytes),
                              bits_per_weight(report))));
}

void print_json(const ConvertReport& report, const ConvertOptions& options) {
  Json changed = Json::array();
  for (const ChangedTensor& tensor : report.changed) {
    changed.push(Json::object()
                     .set("name", tensor.name)
                     .set("from", tensor.from)
                     .set("to", tensor.to)
                     .set("max_error", tensor.max_error)
                     .set("relative_error", tensor.relative_error));
  }
  Json notes = Json::array();
  for (const std::string& note : report.notes) notes.push(note);
  print(Json::object()
            .set("path", options.target)
            .set("format", model_format_name(options.format))
            .set("tensors", report.n_tensors)
            .set("parameters", report.n_parameters)
            .set("bytes", report.n_bytes)
            .set("bits_per_weight", bits_per_weight(report))
            .set("rounded", std::move(changed))
            .set("notes", std::move(notes))
            .dump_pretty() +
        "\n");
}

// Perplexity of a model on ids of the calibration text, in chunks of 512, exact arithmetic.
double perplexity_of(const std::string& path, const std::vector<std::string>& calibration, ProgressBar& bar) {
  RunnerOptions runner_options;
  runner_options.is_exact = true;
  const MeasuredModel model = open_measured_model(path, runner_options);
  std::vector<TextSet> sets;
  if (calibration.empty()) {
    TextSet& own = sets.emplace_back();
    const std::vector<int32_t> ids = model.text.tokenizer->encode(default_calibration_text());
    constexpr size_t kChunk = 512;
    for (size_t begin = 0; begin + kChunk <= ids.size(); begin += kChunk) {
      own.chunks.emplace_back(ids.begin() + static_cast<std::ptrdiff_t>(begin),
                              ids.begin() + static_cast<std::ptrdiff_t>(begin + kChunk));
    }
  } else {
    sets = read_text_sets(model, nullptr, calibration, TextSetOptions());
  }
  MeasureOptions options;
  options.on_progress = [&](double fraction) { bar.update(fraction); };
  options.cancel = &CancelScope::flag();
  const double perplexity = measure_perplexity(*model.runner, sets, options).total.perplexity().mean;
  bar.clear();
  return perplexity;
}

// The course and the lines of the MLX program that this one continues.
int run_dynamic_quant(const Args& args, const ConvertFlags& flags, const ConvertOptions& target) {
  if (target.format != ModelFormat::kMlx || flags.dequantize || !flags.dtype.empty() || flags.json) {
    args.fail_usage("--dynamic-quant writes --mlx-path; leave out --to, --dequantize, --dtype and --json");
  }
  QuantizeOptions options;
  options.source = target.source;
  options.target = target.target;
  options.method = QuantMethod::kYaqa;
  options.target_bpw = flags.target_bpw.value_or(4.5);
  options.target_group = static_cast<int>(flags.group_size.value_or(64));
  check_quantization_params({QuantMode::kAffine, 4, *options.target_group});
  options.calibration = flags.calibration;
  options.cancel = &CancelScope::flag();
  options.program = build_identity();
  const CancelScope scope;
  ProgressBar bar("quantizing");
  std::string stage;
  options.on_progress = [&](const char* now, double fraction) {
    if (stage != now) {
      bar.clear();
      stage = now;
      print_status(fmt::format("mobilellm: {}\n", stage));
    }
    bar.update(fraction);
  };
  try {
    if (flags.report_ppl) {
      print(fmt::format("Original PPL: {:.3f}\n", perplexity_of(options.source, options.calibration, bar)));
      flush_stdout();
    }
    const QuantizeReport report = quantize_model(options);
    bar.clear();
    for (const std::string& note : report.conversion.notes) {
      print_status(printable(fmt::format("mobilellm: note: {}\n", note)));
    }
    if (flags.report_ppl) {
      print(fmt::format("Quantized PPL: {:.3f}\n", perplexity_of(options.target, options.calibration, bar)));
    }
    print(printable(
        fmt::format("Saved to {} ({:.3f} bits per weight)\n", options.target, bits_per_weight(report.conversion))));
  } catch (const Error& error) {
    bar.clear();
    if (error.code() != ErrorCode::kCancelled) throw;
    print_error(error.what());
    return CancelScope::requested_status();
  }
  return 0;
}

}  // namespace

int run_convert(int argc, const char* const* argv) {
  ConvertFlags flags;
  Args args("convert",
            "Writes a model in another format: Hugging Face folder, mlx-lm folder or GGUF file, with tokenizer, chat "
            "template and generation settings. The target appears only when it is complete.",
            "[--model-path] PATH (--mlx-path DIR | --output PATH --to FORMAT) [flags]");
  args.text("--model-path,--hf-path,--model", "PATH", flags.model_path, "model folder or .gguf file to convert");
  args.positional("PATH", flags.positional_path, "the same without the flag");
  args.text("--mlx-path", "DIR", flags.mlx_path, "folder to write for mlx-lm; must not exist");
  args.text("--output,-o", "PATH", flags.output, "folder or .gguf file to write; must not exist");
  args.text("--to", "FORMAT", flags.to, "hf, mlx or gguf; a target that ends in .gguf needs none");
  args.text("--dtype", "TYPE", flags.dtype, "float type of unquantized weights: f32, f16 or bf16 (default: as stored)");
  args.flag("--dequantize,-d", flags.dequantize, "turn quantized weights into floats");
  args.text("--max-shard-size", "SIZE", flags.max_shard_size,
            "most bytes of weights in one file, such as 500MB (default: 5 GiB; GGUF: one file). A sharded GGUF is a "
            "folder");
  args.flag("--json", flags.json, "print the result as one JSON object");
  args.section("Quantization");
  args.flag("--dynamic-quant", flags.dynamic_quant, "quantize on the way, each matrix in as many bits as it needs");
  args.number("--target-bpw", "X", flags.target_bpw, 1.0, 32.0, "most bits per weight of the result (default: 4.5)");
  args.integer("--group-size", "N", flags.group_size, 32, 128, "weights that share a scale (default: 64)");
  args.list("--calibration", "FILE", flags.calibration, "text or .jsonl (default: a text of the program's own)");
  args.flag("--report-ppl", flags.report_ppl, "print the perplexity on the calibration text before and after");
  args.example("mobilellm convert --hf-path MODEL --mlx-path OUT");
  args.example("mobilellm convert MODEL --mlx-path OUT --dynamic-quant --report-ppl");
  args.example("mobilellm convert MODEL --output OUT.gguf --dtype bf16");
  args.example("mobilellm convert MODEL.gguf --output OUT --to hf --dequantize");
  if (!args.parse(argc, argv)) return 0;
  if (flags.positional_path) flags.model_path = flags.positional_path;
  if (!flags.model_path) args.fail_usage("the model to convert is missing: --model-path PATH");

  ConvertOptions options;
  options.source = *flags.model_path;
  choose_target(args, flags, options);
  options.dtype = read_dtype(args, flags.dtype);
  options.dequantize = flags.dequantize;
  options.max_shard_bytes = read_size(args, flags.max_shard_size);
  if (flags.dynamic_quant) return run_dynamic_quant(args, flags, options);
  if (flags.target_bpw || flags.group_size || flags.report_ppl || !flags.calibration.empty()) {
    args.fail_usage("--target-bpw, --group-size, --calibration and --report-ppl go with --dynamic-quant");
  }

  const CancelScope scope;
  ProgressBar bar("converting");
  options.on_progress = [&](double fraction) { bar.update(fraction); };
  options.cancel = &CancelScope::flag();
  ConvertReport report;
  try {
    report = convert_model(options);
  } catch (const Error& error) {
    bar.clear();
    if (error.code() != ErrorCode::kCancelled) throw;
    print_error(error.what());
    return CancelScope::requested_status();
  }
  bar.clear();
  if (flags.json) {
    print_json(report, options);
  } else {
    print_text(report, options);
  }
  return 0;
}

}  // namespace mobilellm::cli
