/// Throwing and mapping of mobilellm::Error inside the library.
#pragma once

#include <fmt/core.h>

#include "mobilellm/error.h"

namespace mobilellm {

/// Throws Error with a formatted message.
template <typename... Args>
[[noreturn]] void fail(ErrorCode code, fmt::format_string<Args...> format, Args&&... args) {
  throw Error(code, fmt::format(format, std::forward<Args>(args)...));
}

/// Exit status of the program for an error: 2 for misuse, 1 for everything else (docs: HACKING.md, exit codes).
int exit_status(ErrorCode code) noexcept;

/// Stable lower-case name, e.g. "corrupt_data", for JSON output.
const char* error_code_name(ErrorCode code) noexcept;

/// a * b and a + b for sizes read from files; throw kCorruptData naming `what` on overflow.
size_t checked_mul(size_t a, size_t b, const char* what);
size_t checked_add(size_t a, size_t b, const char* what);

}  // namespace mobilellm

/// Checks an invariant that only a defect of this library can break.
#define MOBILELLM_CHECK(condition)                                                                            \
  do {                                                                                                        \
    if (!(condition)) {                                                                                       \
      ::mobilellm::fail(::mobilellm::ErrorCode::kInternal, "[internal] check failed: {} ({}:{})", #condition, \
                        __FILE_NAME__, __LINE__);                                                             \
    }                                                                                                         \
  } while (false)
