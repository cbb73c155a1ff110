/// What a checkpoint is and what is wrong with it, from its headers alone: for `inspect` and tests.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "model/binding.h"
#include "model/spec.h"

namespace mobilellm {

struct DTypeTotal {
  std::string type;  ///< "BF16", "Q4_K".
  int64_t n_tensors = 0;
  int64_t n_bytes = 0;
};

struct ModelCheck {
  std::string path;
  std::string format;             ///< "safetensors", "mlx", "gguf"; empty when nothing could be opened.
  std::optional<ModelSpec> spec;  ///< Unset when the configuration was refused.
  std::string mlp_variant;        ///< "SwiGLU", "GeGLU" or "dual-branch"; empty without a spec.
  std::string mlp_reason;
  int64_t n_parameters = 0;    ///< By the spec; a tied table once.
  int64_t n_weight_bytes = 0;  ///< Of all tensors in the files.
  double bits_per_weight = 0;
  std::vector<DTypeTotal> dtypes;     ///< In order of appearance.
  std::vector<TensorCheck> tensors;   ///< Without a spec: the file's tensors, none expected.
  std::vector<std::string> problems;  ///< Everything that is wrong, one line each.

  bool is_ok() const { return problems.empty(); }
};

/// Never throws for what a file holds: every problem becomes a line. Reads headers and metadata only.
ModelCheck check_model(const std::string& path);

}  // namespace mobilellm
