/// Every tensor a spec asks for: its role, the names it may have, its shape and what loading does to its values.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "model/arch/registry.h"
#include "model/spec.h"

namespace mobilellm {

enum class TensorRole : uint8_t {
  kEmbedTokens,
  kLmHead,
  kFinalNorm,
  kAttentionNorm,
  kAttentionPostNorm,
  kMlpNorm,
  kMlpPostNorm,
  kQNorm,
  kKNorm,
  kQProj,
  kKProj,
  kVProj,
  kOProj,
  kGateProj,
  kUpProj,
  kDownProj,
  kPlainUp,
  kPlainDown,
  // Biases, in the order of their matrices.
  kQBias,
  kKBias,
  kVBias,
  kOBias,
  kGateBias,
  kUpBias,
  kDownBias,
};

struct TensorEntry {
  TensorRole role;
  int layer = -1;                  ///< -1 for tensors of the whole model.
  std::vector<std::string> names;  ///< Accepted full names, the usual one first.
  std::vector<int64_t> shape;      ///< [out, in] of a matrix, [n] of a norm or bias.
  NormTransform transform = NormTransform::kNone;

  bool is_matrix() const { return shape.size() == 2; }
};

/// The table of a model, whole-model tensors first, then layer by layer.
std::vector<TensorEntry> tensor_table(const ModelDescription& description);

}  // namespace mobilellm
