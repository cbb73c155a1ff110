/// An opened checkpoint and what its configuration says, before any weight is bound.
#pragma once

#include <optional>
#include <string>

#include "codec/quantization_config.h"
#include "formats/checkpoint_dir.h"
#include "model/arch/registry.h"

namespace mobilellm {

/// "gguf", "mlx" (written by mlx-lm or quantized as it does) or "safetensors".
std::string checkpoint_format(const CheckpointDir& checkpoint);

/// The spec of a checkpoint with weights. Of tensor data only `rope_freqs.weight` of GGUF is read.
ModelDescription describe_checkpoint(const CheckpointDir& checkpoint);

/// Packing of the linear layers; nothing for GGUF and for plain weights.
std::optional<QuantizationConfig> checkpoint_quantization(const CheckpointDir& checkpoint);

/// Scalars and short numeric lists of the metadata as one flat object.
Json gguf_metadata_json(const GgufFile& file);

}  // namespace mobilellm
