/// The one place where concrete backends are created.
#pragma once

#include <memory>
#include <string_view>

#include "backend/backend.h"
#include "model/weights.h"

namespace mobilellm {

/// `name`: "cpu". Throws kUnsupported for a name that this build does not have.
std::unique_ptr<Runner> create_runner(std::string_view name, const ModelSpec& spec, ModelWeights weights,
                                      const RunnerOptions& options);

}  // namespace mobilellm
