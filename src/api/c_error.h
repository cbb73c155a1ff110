/// Keeps exceptions inside of the C API: status and message instead.
#pragma once

#include <cstddef>
#include <cstring>

#include "mobilellm/c_api.h"

namespace mobilellm::c_api {

/// Inside of a catch block: keeps the exception's message for mobilellm_last_error() and gives its status.
mobilellm_status keep_current_exception() noexcept;

/// Runs the body of a C function.
template <typename Body>
mobilellm_status guard(Body&& body) noexcept {
  try {
    body();
    return MOBILELLM_OK;
  } catch (...) {
    return keep_current_exception();
  }
}

/// Throws kInvalidArgument when a pointer that must point to something is NULL.
void require(const void* pointer, const char* name);

/// Throws an error that guard() turns into MOBILELLM_ERROR_BUFFER_TOO_SMALL.
[[noreturn]] void fail_too_small(size_t capacity, size_t needed);

/// Copies `from` to a caller's buffer, by the rules of c_api.h.
template <typename Container, typename T>
void fill(const Container& from, T* to, size_t capacity, size_t* needed) {
  *needed = from.size();
  if (capacity == 0) return;
  require(to, "buffer");
  if (from.size() > capacity) fail_too_small(capacity, from.size());
  if (!from.empty()) std::memcpy(to, from.data(), from.size() * sizeof(T));
}

}  // namespace mobilellm::c_api
