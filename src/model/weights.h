/// The weights of a model, bound to the roles its spec describes and checked in shape; matrices stay in their file's
/// format.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "codec/codec.h"
#include "formats/weight_source.h"
#include "model/spec.h"

namespace mobilellm {

/// y = W x + b.
struct LinearWeights {
  StoredMatrix matrix;      ///< [out, in]
  std::vector<float> bias;  ///< [out], empty when there is none.
};

/// Norm weights are f32 with load-time constants folded in (Gemma's 1 + w), so a block has one RMS norm.
struct LayerWeights {
  std::vector<float> attention_norm;       ///< [d_model] before attention (pre, sandwich), else empty.
  std::vector<float> attention_post_norm;  ///< [d_model] on the attention output (post, sandwich), else empty.
  std::vector<float> mlp_norm;             ///< [d_model] before the MLP (pre, sandwich), else empty.
  std::vector<float> mlp_post_norm;        ///< [d_model] on the MLP output (post, sandwich), else empty.
  std::vector<float> q_norm;               ///< [head_dim] or [n_heads * head_dim] by QkNorm, else empty.
  std::vector<float> k_norm;
  LinearWeights q_proj, k_proj, v_proj, o_proj;
  LinearWeights gate_proj, up_proj, down_proj;  ///< The gated branch.
  LinearWeights plain_up, plain_down;           ///< The plain branch of a dual-branch MLP, else rows == 0.
};

struct ModelWeights {
  StoredMatrix embed_tokens;  ///< [vocab_size, d_model]
  StoredMatrix lm_head;       ///< [vocab_size, d_model]; rows == 0 when the output is tied.
  std::vector<float> final_norm;
  std::vector<LayerWeights> layers;
  std::shared_ptr<WeightSource> source;  ///< Keeps the mapped files alive.
};

}  // namespace mobilellm
