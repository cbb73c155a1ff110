/// What a model is, as data: every fact that may differ between architectures, so that backends never ask which one it
/// is.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace mobilellm {

enum class NormPlacement : uint8_t {
  kPre,       ///< x += f(norm(x))
  kPost,      ///< x += norm(f(x)) (OLMo-2)
  kSandwich,  ///< x += norm(f(norm(x))) (Gemma-3)
};

enum class QkNorm : uint8_t {
  kNone,
  kWeightless,  ///< RMS over each head, no weight, after RoPE (Llama-4)
  kPerHead,     ///< RMS over each head times a weight [head_dim], before RoPE (Qwen3, Gemma-3)
  kFullWidth,   ///< RMS over the whole projection times a weight [n_heads * head_dim], before RoPE (OLMo-2)
};

enum class RopeStyle : uint8_t {
  kNone,         ///< This layer does not rotate.
  kInterleaved,  ///< Pairs (2i, 2i + 1)
  kHalfSplit,    ///< Pairs (i, i + head_dim / 2)
};

enum class Activation : uint8_t { kSilu, kGeluTanh };

enum class MlpKind : uint8_t {
  kGated,       ///< down(act(gate x) * up x)
  kDualBranch,  ///< g_down(act(g_gate x) * g_up x) + p_down(act(p_up x)), MobileLLM's dual-branch dense MLP
};

/// Which earlier positions j a query at position i sees, besides j <= i.
struct AttentionWindow {
  enum class Kind : uint8_t {
    kFull,
    kSliding,  ///< i - j < size
    kChunked,  ///< i / size == j / size
  };
  Kind kind = Kind::kFull;
  int64_t size = 0;

  /// First visible position of a query at position `pos`.
  int64_t first_visible(int64_t pos) const {
    if (kind == Kind::kSliding) return pos >= size ? pos - size + 1 : 0;
    if (kind == Kind::kChunked) return pos / size * size;
    return 0;
  }
};

/// How the speeds of a table were scaled, for who writes a configuration; inv_freq has it applied already.
struct RopeScaling {
  enum class Kind : uint8_t {
    kNone,
    kLinear,
    kLlama3,
    kYarn,
    kUnknown,  ///< Divisors of a GGUF file that no known rule gives.
  };
  Kind kind = Kind::kNone;
  double factor = 1;
  double original_context = 0;             ///< kLlama3, kYarn
  double low_freq_factor = 1;              ///< kLlama3
  double high_freq_factor = 4;             ///< kLlama3
  double beta_fast = 32;                   ///< kYarn
  double beta_slow = 1;                    ///< kYarn
  std::optional<double> attention_factor;  ///< kYarn; computed from factor (and the mscale values) when unset.
  double mscale = 0;                       ///< kYarn
  double mscale_all_dim = 0;               ///< kYarn
  bool is_truncated = true;                ///< kYarn: the corrected range is rounded outwards to whole dimensions.
};

/// Rotation speeds shared by layers: angle(pos, i) = float(pos) * inv_freq[i], in f32 as the reference computes it.
struct RopeTable {
  double theta = 10000;
  std::string scaling = "none";  ///< For display: "none", "llama3", "linear", "yarn".
  RopeScaling recipe;
  std::vector<float> inv_freq;  ///< [head_dim / 2], scaling applied.
  float attention_factor = 1;   ///< Multiplies cos and sin (YaRN).
};

/// Query scaling of layers without RoPE (Llama-4): q *= log(1 + floor((pos + 1) / floor_scale)) * attn_scale + 1.
struct AttentionTemperature {
  bool is_on = false;
  double floor_scale = 8192;
  double attn_scale = 0.1;
};

/// One transformer block.
struct LayerSpec {
  int n_heads = 0;
  int n_kv_heads = 0;
  int head_dim = 0;
  int d_ff = 0;        ///< Width of the gated branch.
  int d_ff_plain = 0;  ///< Width of the plain branch of a dual-branch MLP, else 0.
  NormPlacement norm_placement = NormPlacement::kPre;
  QkNorm qk_norm = QkNorm::kNone;
  RopeStyle rope_style = RopeStyle::kHalfSplit;
  int rope_table = 0;  ///< Index into ModelSpec::rope_tables.
  AttentionWindow window;
  AttentionTemperature temperature;
  float score_scale = 0;  ///< Multiplies q.k
  Activation activation = Activation::kSilu;
  MlpKind mlp = MlpKind::kGated;
  bool has_qkv_bias = false;
  bool has_o_bias = false;
  bool has_mlp_bias = false;
};

struct ModelSpec {
  std::string architecture;  ///< For display only.
  std::string mlp_reason;    ///< How the MLP variant was recognised, for `inspect`.
  int vocab_size = 0;
  int d_model = 0;
  int64_t max_context = 0;    ///< Positions the model was made for.
  float embedding_scale = 1;  ///< Multiplies embeddings (Gemma: sqrt(d_model)).
  float norm_eps = 1e-5f;
  bool is_output_tied = true;
  std::vector<RopeTable> rope_tables;
  std::vector<LayerSpec> layers;
  int64_t bos_id = -1;  ///< -1 when the checkpoint names none.
  std::vector<int64_t> eos_ids;

  int n_layers() const { return static_cast<int>(layers.size()); }
};

/// Throws kCorruptData when sizes are impossible or inconsistent (origin is named in the message).
void validate(const ModelSpec& spec, const std::string& origin);
/// Parameters of the model, a tied table counted once.
int64_t parameter_count(const ModelSpec& spec);
/// Bytes of keys and values per token when stored in `bytes_per_value` bytes each.
int64_t kv_bytes_per_token(const ModelSpec& spec, int bytes_per_value);
/// Bytes of keys and values of a sequence of `n_tokens`: layers with a window keep no more than it.
int64_t kv_bytes(const ModelSpec& spec, int bytes_per_value, int64_t n_tokens);

/// What differs between two descriptions of one model, in words; empty when they compute the same. Not compared:
/// display texts, token ids, the order of rows that a rotation needs (half-split or interleaved), and the type that an
/// embedding scale is rounded to.
std::string first_difference(const ModelSpec& a, const ModelSpec& b);

const char* to_string(NormPlacement value);
const char* to_string(QkNorm value);
const char* to_string(RopeStyle value);
const char* to_string(Activation value);
const char* to_string(MlpKind value);

}  // namespace mobilellm
