/// The `quantization` section of an MLX config.json: which linear layer is packed how.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>

#include "base/json.h"

namespace mobilellm {

enum class QuantMode : uint8_t { kAffine, kMxfp4, kNvfp4, kMxfp8 };

/// "affine", "mxfp4", "nvfp4", "mxfp8".
const char* quant_mode_name(QuantMode mode);
std::optional<QuantMode> find_quant_mode(std::string_view name);

struct QuantizationParams {
  QuantMode mode = QuantMode::kAffine;
  int bits = 4;         ///< affine: 2, 3, 4, 5, 6 or 8; mxfp4, nvfp4: 4; mxfp8: 8.
  int group_size = 64;  ///< affine: 32, 64 or 128; mxfp4, mxfp8: 32; nvfp4: 16.

  bool operator==(const QuantizationParams&) const = default;
};

/// Throws kInvalidArgument unless the mode supports bits and group_size.
void check_quantization_params(const QuantizationParams& params);

struct QuantizationConfig {
  QuantizationParams defaults;
  /// By module path without ".weight"; nothing = the module is not quantized.
  std::unordered_map<std::string, std::optional<QuantizationParams>> overrides;

  /// Settings of a module whose weights come with scales: its own entry, else the defaults. Nothing when the config
  /// says that it is not quantized.
  std::optional<QuantizationParams> params_for(std::string_view module_path) const;
};

/// Reads the key `quantization` (or its copy `quantization_config`) of a config.json; nothing when both are absent.
/// `origin` is the file's path. Throws kCorruptData naming the key, kUnsupported for formats of other tools
/// (`quant_method`: awq, gptq ...).
std::optional<QuantizationConfig> parse_quantization_config(const Json& config, const std::string& origin);

}  // namespace mobilellm
