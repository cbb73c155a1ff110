/// Shapes of well-known models by name, for measurements on random weights.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "model/arch/registry.h"

namespace mobilellm {

/// "tiny", "135m" (SmolLM2), "140m", "360m" and "950m" (MobileLLM-R1).
std::vector<std::string> shape_names();

/// Throws kInvalidArgument listing the names.
ModelDescription describe_shape(std::string_view name);

}  // namespace mobilellm
