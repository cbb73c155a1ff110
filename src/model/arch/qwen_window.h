/// Sliding windows as the Qwen configs describe them.
#pragma once

#include "base/json.h"
#include "model/spec.h"

namespace mobilellm {

/// Sets each layer's window from `use_sliding_window`, `sliding_window`, `max_window_layers` and `layer_types`: with
/// the first on, layers from `max_window_layers` on slide, unless `layer_types` says otherwise.
void read_qwen_windows(JsonObjectReader& config, ModelSpec& spec);

}  // namespace mobilellm
