// Log callback and version of the C++ API.
#include "mobilellm/log.h"

#include <utility>

#include "base/log.h"
#include "mobilellm/version.h"

namespace mobilellm {

static_assert(std::string_view(MOBILELLM_VERSION_STRING) == MOBILELLM_PROJECT_VERSION,
              "include/mobilellm/version.h and project(VERSION) in CMakeLists.txt differ");

void set_log_callback(LogCallback callback) {
  if (!callback) return set_log_sink({});
  set_log_sink([callback = std::move(callback)](LogLevel level, std::string_view message) {
    switch (level) {
      case LogLevel::kDebug:
        return callback(LogSeverity::kDebug, message);
      case LogLevel::kInfo:
        return callback(LogSeverity::kInfo, message);
      case LogLevel::kWarning:
        return callback(LogSeverity::kWarning, message);
    }
  });
}

const char* version() noexcept { return MOBILELLM_VERSION_STRING; }

}  // namespace mobilellm
