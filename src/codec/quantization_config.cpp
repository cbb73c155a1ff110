// Reading of the `quantization` section of config.json.
#include "codec/quantization_config.h"

#include <algorithm>
#include <array>

#include "base/error.h"
#include "tensor/tensor_view.h"

namespace mobilellm {
namespace {

struct ModeRow {
  QuantMode mode;
  const char* name;
  std::array<int, 6> bits;    // Allowed, zeros at the end; the first is the default.
  std::array<int, 3> groups;  // The same.
};

constexpr ModeRow kModes[] = {
    {QuantMode::kAffine, "affine", {4, 2, 3, 5, 6, 8}, {64, 32, 128}},
    {QuantMode::kMxfp4, "mxfp4", {4}, {32}},
    {QuantMode::kNvfp4, "nvfp4", {4}, {16}},
    {QuantMode::kMxfp8, "mxfp8", {8}, {32}},
};

const ModeRow& mode_row(QuantMode mode) { return kModes[static_cast<size_t>(mode)]; }

template <size_t n>
bool contains(const std::array<int, n>& values, int64_t value) {
  return value != 0 && std::find(values.begin(), values.end(), value) != values.end();
}

template <size_t n>
std::string list_text(const std::array<int, n>& values) {
  std::array<int, n> sorted = values;
  std::sort(sorted.begin(), sorted.end());
  std::string text;
  for (const int value : sorted) {
    if (value == 0) continue;
    if (!text.empty()) text += ", ";
    text += std::to_string(value);
  }
  return text;
}

template <size_t n>
int read_choice(JsonObjectReader& reader, const char* key, const std::array<int, n>& allowed, const char* mode) {
  const int64_t value = reader.get_int(key, INT64_MIN, INT64_MAX, allowed[0]);
  if (!contains(allowed, value)) {
    reader.fail_key(key, fmt::format("got {}, expected {} (mode {})", value, list_text(allowed), mode));
  }
  return static_cast<int>(value);
}

// As MLX: keys that an entry lacks take the defaults of the mode, and a missing mode is affine.
QuantizationParams read_params(JsonObjectReader& reader) {
  const std::string name = reader.get_string("mode", "affine");
  const std::optional<QuantMode> mode = find_quant_mode(name);
  if (!mode) {
    reader.fail_key("mode", fmt::format("got '{}', expected affine, mxfp4, nvfp4 or mxfp8", printable_name(name)));
  }
  const ModeRow& row = mode_row(*mode);
  QuantizationParams params;
  params.mode = *mode;
  params.bits = read_choice(reader, "bits", row.bits, row.name);
  params.group_size = read_choice(reader, "group_size", row.groups, row.name);
  return params;
}

}  // namespace

const char* quant_mode_name(QuantMode mode) { return mode_row(mode).name; }

std::optional<QuantMode> find_quant_mode(std::string_view name) {
  for (const ModeRow& row : kModes) {
    if (name == row.name) return row.mode;
  }
  return std::nullopt;
}

void check_quantization_params(const QuantizationParams& params) {
  const ModeRow& row = mode_row(params.mode);
  if (!contains(row.bits, params.bits)) {
    fail(ErrorCode::kInvalidArgument, "[quantization] bits: got {}, expected {} (mode {})", params.bits,
         list_text(row.bits), row.name);
  }
  if (!contains(row.groups, params.group_size)) {
    fail(ErrorCode::kInvalidArgument, "[quantization] group_size: got {}, expected {} (mode {})", params.group_size,
         list_text(row.groups), row.name);
  }
}

std::optional<QuantizationParams> QuantizationConfig::params_for(std::string_view module_path) const {
  const auto entry = overrides.find(std::string(module_path));
  return entry == overrides.end() ? std::optional<QuantizationParams>(defaults) : entry->second;
}

std::optional<QuantizationConfig> parse_quantization_config(const Json& config, const std::string& origin) {
  const char* section_key = "quantization";
  const Json* section = config.find(section_key);
  if (section == nullptr || section->is_null()) {
    section_key = "quantization_config";
    section = config.find(section_key);
  }
  if (section == nullptr || section->is_null()) return std::nullopt;
  if (!section->is_object()) {
    fail(ErrorCode::kCorruptData, "[config] {}: {}: got {}, expected object", origin, section_key,
         section->type_name());
  }
  if (const Json* method = section->find("quant_method"); method != nullptr && !method->is_null()) {
    const std::string name = method->is_string() ? printable_name(method->as_string()) : method->dump();
    fail(ErrorCode::kUnsupported,
         "[config] {}: {}.quant_method: got '{}', expected a model quantized by mlx-lm or a GGUF file; start from the "
         "unquantized model",
         origin, section_key, name);
  }

  QuantizationConfig result;
  JsonObjectReader reader(*section, origin, section_key);
  result.defaults = read_params(reader);
  for (const auto& [key, value] : section->as_object()) {
    if (key == "mode" || key == "bits" || key == "group_size" || value.is_null()) continue;
    std::optional<QuantizationParams> params;
    if (value.is_object()) {
      JsonObjectReader entry(value, origin, fmt::format("{}.{}", section_key, printable_name(key)));
      params = read_params(entry);
    } else if (!value.is_bool()) {
      reader.fail_key(printable_name(key), fmt::format("got {}, expected object or bool", value.type_name()));
    } else if (value.as_bool()) {
      params = result.defaults;
    }
    result.overrides.emplace(key, params);
  }
  return result;
}

}  // namespace mobilellm
