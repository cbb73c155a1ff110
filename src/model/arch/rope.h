/// Rotation speeds from configuration values, computed in f32 in the order the reference uses.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/json.h"
#include "model/spec.h"

namespace mobilellm {

/// inv_freq[i] = 1 / theta^(2i / head_dim), unscaled.
RopeTable make_rope_table(double theta, int head_dim);

/// Llama-3 scaling: long wavelengths are slowed by `factor`, short ones kept, those between interpolated.
void scale_rope_llama3(RopeTable& table, double factor, double low_freq_factor, double high_freq_factor,
                       double original_context);

/// Positions divided by `factor`.
void scale_rope_linear(RopeTable& table, double factor);

/// YaRN (Peng et al., 2023) as transformers computes it.
void scale_rope_yarn(RopeTable& table, const RopeScaling& yarn);

/// Divides every speed by its divisor (GGUF `rope_freqs.weight`), and finds the Llama-3 scaling that gave the divisors.
/// `divisors`: [head_dim / 2], checked by the caller.
void divide_rope(RopeTable& table, std::span<const float> divisors);

/// The table of one `rope_scaling` or `rope_parameters` object; every key of it is read.
/// `theta`: used when the object has no `rope_theta`. Throws kUnsupported for a rope_type that is not known,
/// kCorruptData naming the key for missing or impossible values.
RopeTable read_rope_parameters(JsonObjectReader& object, double theta, int head_dim, int64_t max_context);

/// The table that all layers share, from `rope_theta` with `rope_scaling`, or from a flat `rope_parameters`.
RopeTable read_rope(JsonObjectReader& config, double default_theta, int head_dim, int64_t max_context);

}  // namespace mobilellm
