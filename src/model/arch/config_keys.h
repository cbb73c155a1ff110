/// Configuration values that every family has, with their limits, and the rule for keys that nobody asked for.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "model/spec.h"

namespace mobilellm {

// Limits before any allocation; far above every model this program is for.
inline constexpr int64_t kMaxLayers = 1024;
inline constexpr int64_t kMaxVocab = int64_t{4} << 20;
inline constexpr int64_t kMaxDModel = 65536;
inline constexpr int64_t kMaxHeads = 1024;
inline constexpr int64_t kMaxHeadDim = 1024;
inline constexpr int64_t kMaxDff = int64_t{1} << 20;
inline constexpr int64_t kMaxContext = int64_t{1} << 30;
inline constexpr double kMinRopeTheta = 1.0001;
inline constexpr double kMaxRopeTheta = 1e12;

/// Names and shapes of a checkpoint's tensors, from its headers.
using TensorShapes = std::map<std::string, std::vector<int64_t>, std::less<>>;

/// What differs between families where a key is absent from config.json.
struct ConfigDefaults {
  double norm_eps = 1e-6;
  int head_dim = 0;  ///< 0: hidden_size / num_attention_heads.
  const char* activation_key = "hidden_act";
};

/// The sizes, biases (`attention_bias`, `mlp_bias`), activation, token ids and tied output that every family reads in
/// the same way. All layers are equal: pre-norm, full attention, half-split RoPE on table 0, score scale head_dim^-0.5.
/// No RoPE table is made.
ModelSpec read_base_config(JsonObjectReader& config, const ConfigDefaults& defaults, const TensorShapes& tensors);

/// The same from GGUF metadata as an object of `arch.key` names. Biases are those whose tensors exist; the output is
/// tied when there is no output.weight. One RoPE table is made, with the file's scaling; `rope_divisors` (may be empty)
/// are those of rope_freqs.weight.
ModelSpec read_base_gguf(JsonObjectReader& metadata, const std::string& arch, const TensorShapes& tensors,
                         const std::vector<float>& rope_divisors);

/// `layer_types` as attention windows; empty when the key is absent. `sliding_window` and `chunk_size` are 0 when the
/// family has none, and naming such a type is then an error.
std::vector<AttentionWindow> read_layer_types(JsonObjectReader& config, int n_layers, int64_t sliding_window,
                                              int64_t chunk_size);

/// One integer or a list of them, as `eos_token_id` is. Empty when absent.
std::vector<int64_t> read_token_ids(JsonObjectReader& config, std::string_view key);

/// Throws kUnsupported naming the first unread key whose name says that it changes the maths and whose value is not
/// null or false; lists the other unread keys at debug level. Known harmless keys are skipped.
void refuse_unknown_keys(const JsonObjectReader& config, const Json& object);

}  // namespace mobilellm
