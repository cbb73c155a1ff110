// The course of a conversion: open, describe, plan, write, read back, move into place.
#include "convert/convert.h"

#include <algorithm>
#include <map>
#include <utility>

#include "base/error.h"
#include "base/files.h"
#include "base/staged_output.h"
#include "convert/target_config.h"
#include "convert/text_files.h"
#include "convert/weight_plan.h"
#include "formats/checkpoint_dir.h"
#include "formats/safetensors_writer.h"
#include "model/binding.h"
#include "model/check.h"
#include "model/checkpoint.h"
#include "model/loader.h"

namespace mobilellm {
namespace {

constexpr size_t kDefaultShardBytes = size_t{5} << 30;

struct FormatRow {
  ModelFormat format;
  const char* name;
};
constexpr FormatRow kFormats[] = {
    {ModelFormat::kHuggingFace, "hf"}, {ModelFormat::kMlx, "mlx"}, {ModelFormat::kGguf, "gguf"}};

/// general.file_type of GGUF for the type of most weights.
uint32_t file_type_number(DType dtype) {
  constexpr std::pair<DType, uint32_t> kNumbers[] = {
      {DType::kF32, 0},     {DType::kF16, 1},     {DType::kQ4_0, 2},  {DType::kQ4_1, 3},
      {DType::kQ8_0, 7},    {DType::kQ5_0, 8},    {DType::kQ5_1, 9},  {DType::kQ2_K, 10},
      {DType::kQ3_K, 12},   {DType::kQ4_K, 15},   {DType::kQ5_K, 17}, {DType::kQ6_K, 18},
      {DType::kIQ4_NL, 25}, {DType::kIQ4_XS, 30}, {DType::kBF16, 32}, {DType::kMXFP4, 38},
  };
  for (const auto& [type, number] : kNumbers) {
    if (type == dtype) return number;
  }
  return 0;
}

DType most_frequent_type(std::span<const PlannedTensor> tensors) {
  std::map<DType, int64_t> n_values;
  for (const PlannedTensor& tensor : tensors) {
    if (tensor.shape.size() < 2) continue;
    n_values[tensor.dtype] += tensor.shape[0] * tensor.shape[1];
  }
  const auto most = std::max_element(n_values.begin(), n_values.end(),
                                     [](const auto& a, const auto& b) { return a.second < b.second; });
  return most == n_values.end() ? DType::kF32 : most->first;
}

const char* config_dtype_name(DType dtype) {
  if (dtype == DType::kF16) return "float16";
  return dtype == DType::kBF16 ? "bfloat16" : "float32";
}

class Conversion {
 public:
  explicit Conversion(const ConvertOptions& options) : options_(options) {}

  ConvertReport run() {
    check_options();
    const CheckpointDir source = open_checkpoint(options_.source);
    const std::optional<QuantizationConfig> quantization = checkpoint_quantization(source);
    const ModelDescription description = describe_checkpoint(source);
    const BindingReport binding = match_tensors(description, *source.weights, quantization);
    check_binding(binding, *source.weights);

    TargetConfig config = make_target_config(source, description, options_.format);
    note_all(config.notes);
    WeightPlan plan = plan_weights(make_input(source, description, config.description, binding));
    note_all(plan.notes);

    StagedOutput target(options_.target, target_kind());
    total_bytes_ = planned_bytes(plan.tensors);
    target.require_space(total_bytes_);
    if (options_.format == ModelFormat::kGguf) {
      write_gguf_target(source, description, config, plan, target);
    } else {
      write_folder_target(source, description, config, plan, target);
    }
    source.weights->check_unchanged();
    read_back(target);
    target.commit();

    report_.n_tensors = static_cast<int64_t>(plan.tensors.size());
    report_.n_parameters = parameter_count(description.spec);
    report_.n_bytes = static_cast<int64_t>(total_bytes_);
    report_.changed = std::move(*plan.changed);
    return std::move(report_);
  }

 private:
  void check_options() const {
    if (options_.dtype && *options_.dtype != DType::kF32 && *options_.dtype != DType::kF16 &&
        *options_.dtype != DType::kBF16) {
      fail(ErrorCode::kInvalidArgument, "[convert] dtype: got {}, expected F32, F16 or BF16",
           dtype_name(*options_.dtype));
    }
  }

  StagedOutput::Kind target_kind() const {
    const bool is_file = options_.format == ModelFormat::kGguf && !options_.max_shard_bytes;
    if (is_file && !options_.target.ends_with(".gguf")) {
      fail(ErrorCode::kInvalidArgument, "[convert] {}: expected a name that ends in .gguf", options_.target);
    }
    return is_file ? StagedOutput::Kind::kFile : StagedOutput::Kind::kFolder;
  }

  void check_binding(const BindingReport& binding, const WeightSource& weights) {
    const std::string error = binding.first_error();
    if (!error.empty()) fail(ErrorCode::kCorruptData, "[convert] {}: {}", weights.path(), error);
    const std::string unexpected = binding.unexpected_tensors();
    if (!unexpected.empty()) report_.notes.push_back("left out, as no part of the model has them: " + unexpected);
  }

  void note_all(std::vector<std::string>& notes) {
    report_.notes.insert(report_.notes.end(), std::make_move_iterator(notes.begin()),
                         std::make_move_iterator(notes.end()));
  }

  void on_bytes(size_t n_bytes) {
    if (options_.cancel != nullptr && options_.cancel->load(std::memory_order_relaxed)) {
      fail(ErrorCode::kCancelled, "[convert] stopped; nothing was written to {}", options_.target);
    }
    done_bytes_ += n_bytes;
    if (options_.on_progress && total_bytes_ > 0) {
      options_.on_progress(static_cast<double>(done_bytes_) / static_cast<double>(total_bytes_));
    }
  }

  WeightPlanInput make_input(const CheckpointDir& source, const ModelDescription& from, const ModelDescription& to,
                             const BindingReport& binding) {
    WeightPlanInput input{from, to, *source.weights, binding, options_, std::nullopt, {}, {}};
    input.declared_dtype = declared_dtype(source.is_gguf() ? carried_config(*source.gguf) : source.config);
    if (source.is_gguf()) {
      input.original_norm = [file = source.gguf](const std::string& name) {
        const std::string key = kGgufNormPrefix + name;
        return file->find_key(key) == nullptr ? std::vector<float>() : file->get_floats(key);
      };
    }
    input.on_bytes = [this](size_t n_bytes) { on_bytes(n_bytes); };
    return input;
  }

  void write_gguf_target(const CheckpointDir& source, const ModelDescription& description, TargetConfig& config,
                         WeightPlan& plan, const StagedOutput& target) {
    GgufMetadata& metadata = config.metadata;
    metadata.set("general.file_type", file_type_number(most_frequent_type(plan.tensors)));
    for (auto& [name, values] : plan.rounded_norms) metadata.set(kGgufNormPrefix + name, std::move(values));
    if (!source.is_gguf()) write_gguf_text(source, description.spec, metadata, report_.notes);
    if (!config.rope_divisors.empty()) {
      PlannedTensor divisors;
      divisors.name = "rope_freqs.weight";
      divisors.shape = {static_cast<int64_t>(config.rope_divisors.size())};
      divisors.write = [&](const ByteSink& sink) { sink(std::as_bytes(std::span(config.rope_divisors))); };
      plan.tensors.insert(plan.tensors.begin(), std::move(divisors));
    }
    if (target.kind() == StagedOutput::Kind::kFile) {
      written_path_ = target.file(file_name(options_.target));
      write_gguf(written_path_, metadata, plan.tensors);
      return;
    }
    const std::vector<std::string> names =
        write_gguf_set(target, "model", metadata, plan.tensors, options_.max_shard_bytes.value_or(kDefaultShardBytes));
    written_path_ = target.file(names.front());
  }

  void write_folder_target(const CheckpointDir& source, const ModelDescription& description, TargetConfig& config,
                           WeightPlan& plan, const StagedOutput& target) {
    const bool is_mlx = options_.format == ModelFormat::kMlx;
    Json& json = config.config;
    const bool has_new_key = json.find("dtype") != nullptr;
    if (has_new_key) json.set("dtype", config_dtype_name(plan.main_dtype));
    if (!has_new_key || json.find("torch_dtype") != nullptr) {
      json.set("torch_dtype", config_dtype_name(plan.main_dtype));
    }
    if (is_mlx) {
      if (!plan.quantization.is_null()) {
        json.set("quantization", plan.quantization).set("quantization_config", plan.quantization);
      }
      std::sort(json.as_object().begin(), json.as_object().end(),
                [](const Json::Member& a, const Json::Member& b) { return a.first < b.first; });
    }
    write_file(target.file("config.json"), json.dump_pretty(is_mlx ? 4 : 2) + "\n");
    if (source.is_gguf()) {
      write_folder_text(source, description.spec, target, report_.notes);
    } else {
      copy_text_files(source, target);
    }
    SafetensorsModelOptions files;
    files.metadata = {{"format", is_mlx ? "mlx" : "pt"}};
    files.max_shard_bytes = options_.max_shard_bytes.value_or(kDefaultShardBytes);
    files.always_index = is_mlx;
    files.n_parameters = is_mlx ? parameter_count(description.spec) : 0;
    files.indent = is_mlx ? 4 : 2;
    write_safetensors_model(target, plan.tensors, files);
    written_path_ = parent_directory(target.file("config.json"));
  }

  // Headers, configuration and tokenizer, as any program will find them.
  void read_back(const StagedOutput& target) const {
    const ModelCheck check = check_model(written_path_);
    if (!check.is_ok()) {
      fail(ErrorCode::kInternal, "[convert] {}: the result would not be readable: {}", target.target(),
           check.problems.front());
    }
    (void)load_text_parts(written_path_);
  }

  const ConvertOptions& options_;
  ConvertReport report_;
  size_t total_bytes_ = 0;
  size_t done_bytes_ = 0;
  std::string written_path_;
};

}  // namespace

const char* model_format_name(ModelFormat format) {
  for (const FormatRow& row : kFormats) {
    if (row.format == format) return row.name;
  }
  return "?";
}

std::optional<ModelFormat> find_model_format(std::string_view name) {
  for (const FormatRow& row : kFormats) {
    if (name == row.name) return row.format;
  }
  return std::nullopt;
}

ConvertReport convert_model(const ConvertOptions& options) { return Conversion(options).run(); }

}  // namespace mobilellm
