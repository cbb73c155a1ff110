/// Where the library's messages go, and the version of the library that is linked.
#pragma once

#include <functional>
#include <string_view>

#include "mobilellm/export.h"

namespace mobilellm {

enum class LogSeverity { kDebug = 0, kInfo = 1, kWarning = 2 };

/// May be called from any thread that uses the library, the text ends without a line break. Must not throw.
using LogCallback = std::function<void(LogSeverity, std::string_view)>;

/// Sets the one receiver of messages of this process; an empty function drops them, which is the default.
/// Call it while no other thread uses the library.
///
///     mobilellm::set_log_callback([](mobilellm::LogSeverity, std::string_view text) { std::cerr << text << '\n'; });
MOBILELLM_API void set_log_callback(LogCallback callback);

/// Version of the library, e.g. "0.1.0"; MOBILELLM_VERSION_STRING is that of the headers.
MOBILELLM_API const char* version() noexcept;

}  // namespace mobilellm
