// Roles to the weights of a loaded model.
#include "backprop/weight_reader.h"

#include <algorithm>

#include "base/error.h"
#include "base/thread_pool.h"

namespace mobilellm {

const LinearWeights& linear_of(const LayerWeights& layer, TensorRole role) {
  switch (role) {
    case TensorRole::kQProj:
    case TensorRole::kQBias:
      return layer.q_proj;
    case TensorRole::kKProj:
    case TensorRole::kKBias:
      return layer.k_proj;
    case TensorRole::kVProj:
    case TensorRole::kVBias:
      return layer.v_proj;
    case TensorRole::kOProj:
    case TensorRole::kOBias:
      return layer.o_proj;
    case TensorRole::kGateProj:
    case TensorRole::kGateBias:
      return layer.gate_proj;
    case TensorRole::kUpProj:
    case TensorRole::kUpBias:
      return layer.up_proj;
    case TensorRole::kDownProj:
    case TensorRole::kDownBias:
      return layer.down_proj;
    case TensorRole::kPlainUp:
      return layer.plain_up;
    case TensorRole::kPlainDown:
      return layer.plain_down;
    default:
      fail(ErrorCode::kInternal, "[backprop] role {} is no linear layer", static_cast<int>(role));
  }
}

const StoredMatrix& matrix_of(const ModelWeights& weights, TensorRole role, int layer) {
  if (role == TensorRole::kEmbedTokens) return weights.embed_tokens;
  if (role == TensorRole::kLmHead) return weights.lm_head;
  return linear_of(weights.layers.at(static_cast<size_t>(layer)), role).matrix;
}

const std::vector<float>& vector_of(const ModelWeights& weights, TensorRole role, int layer) {
  if (role == TensorRole::kFinalNorm) return weights.final_norm;
  const LayerWeights& w = weights.layers.at(static_cast<size_t>(layer));
  switch (role) {
    case TensorRole::kAttentionNorm:
      return w.attention_norm;
    case TensorRole::kAttentionPostNorm:
      return w.attention_post_norm;
    case TensorRole::kMlpNorm:
      return w.mlp_norm;
    case TensorRole::kMlpPostNorm:
      return w.mlp_post_norm;
    case TensorRole::kQNorm:
      return w.q_norm;
    case TensorRole::kKNorm:
      return w.k_norm;
    default:
      return linear_of(w, role).bias;
  }
}

TensorRole output_role(const ModelSpec& spec) {
  return spec.is_output_tied ? TensorRole::kEmbedTokens : TensorRole::kLmHead;
}

std::vector<MatrixId> matrices_of(const ModelSpec& spec) {
  std::vector<MatrixId> ids = {{TensorRole::kEmbedTokens, -1}};
  if (!spec.is_output_tied) ids.push_back({TensorRole::kLmHead, -1});
  for (int i = 0; i < spec.n_layers(); ++i) {
    for (const TensorRole role : {TensorRole::kQProj, TensorRole::kKProj, TensorRole::kVProj, TensorRole::kOProj,
                                  TensorRole::kGateProj, TensorRole::kUpProj, TensorRole::kDownProj}) {
      ids.push_back({role, i});
    }
    if (spec.layers[static_cast<size_t>(i)].mlp != MlpKind::kDualBranch) continue;
    ids.push_back({TensorRole::kPlainUp, i});
    ids.push_back({TensorRole::kPlainDown, i});
  }
  return ids;
}

const float* ModelWeightReader::rows(TensorRole role, int layer, int64_t row_begin, int64_t row_end,
                                     std::vector<float>& buffer) {
  constexpr int64_t kRows = 16;
  const StoredMatrix& matrix = matrix_of(weights_, role, layer);
  const int64_t n = row_end - row_begin;
  buffer.resize(std::max(buffer.size(), static_cast<size_t>(n * matrix.cols)));
  pool_.run((n + kRows - 1) / kRows, [&](int64_t task, int /*worker*/) {
    const int64_t begin = row_begin + task * kRows;
    matrix.codec->decode_rows(matrix, begin, std::min(begin + kRows, row_end),
                              buffer.data() + (begin - row_begin) * matrix.cols);
  });
  return buffer.data();
}

}  // namespace mobilellm
