// The list of backends.
#include "backend/registry.h"

#include "backend/cpu/cpu_runner.h"
#include "base/error.h"

namespace mobilellm {

std::unique_ptr<Runner> create_runner(std::string_view name, const ModelSpec& spec, ModelWeights weights,
                                      const RunnerOptions& options) {
  if (name == "cpu") return create_cpu_runner(spec, std::move(weights), options);
  fail(ErrorCode::kUnsupported, "[backend] '{}' is not in this build; it has: cpu", name);
}

}  // namespace mobilellm
