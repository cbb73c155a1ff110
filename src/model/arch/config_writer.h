/// Configuration values that every family writes, the inverse of config_keys.h.
#pragma once

#include <string>

#include "base/json.h"
#include "formats/gguf_writer.h"
#include "model/spec.h"

namespace mobilellm {

/// Sizes, norm epsilon, RoPE, tied output and token ids in the keys of config.json; not `model_type` and
/// `architectures`, which the caller knows. Throws kUnsupported for a RoPE that no config can describe.
Json write_base_config(const ModelSpec& spec);

/// The same as GGUF keys below `arch`. The divisors of Llama-3's RoPE are a tensor, which the caller writes.
void write_base_gguf(const ModelSpec& spec, const std::string& arch, GgufMetadata& metadata);

/// The shortest decimal number that a float was written as.
Json json_number(float value);

}  // namespace mobilellm
