// Status, message and their names.
#include "api/c_error.h"

#include <exception>
#include <new>
#include <string>

#include "base/error.h"

namespace mobilellm::c_api {
namespace {

static_assert(static_cast<int>(ErrorCode::kInvalidArgument) == MOBILELLM_ERROR_INVALID_ARGUMENT);
static_assert(static_cast<int>(ErrorCode::kNotFound) == MOBILELLM_ERROR_NOT_FOUND);
static_assert(static_cast<int>(ErrorCode::kIo) == MOBILELLM_ERROR_IO);
static_assert(static_cast<int>(ErrorCode::kCorruptData) == MOBILELLM_ERROR_CORRUPT_DATA);
static_assert(static_cast<int>(ErrorCode::kUnsupported) == MOBILELLM_ERROR_UNSUPPORTED);
static_assert(static_cast<int>(ErrorCode::kResourceLimit) == MOBILELLM_ERROR_RESOURCE_LIMIT);
static_assert(static_cast<int>(ErrorCode::kContextExceeded) == MOBILELLM_ERROR_CONTEXT_EXCEEDED);
static_assert(static_cast<int>(ErrorCode::kTemplate) == MOBILELLM_ERROR_TEMPLATE);
static_assert(static_cast<int>(ErrorCode::kCancelled) == MOBILELLM_ERROR_CANCELLED);
static_assert(static_cast<int>(ErrorCode::kInternal) == MOBILELLM_ERROR_INTERNAL);

struct BufferTooSmall : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// The message is a string of its own or, when there is no memory for one, a literal.
struct LastError {
  std::string owned;
  const char* literal = nullptr;
};

LastError& last_error() {
  thread_local LastError instance;
  return instance;
}

void keep_literal(const char* literal) noexcept { last_error().literal = literal; }

void keep(const char* message) noexcept {
  try {
    last_error().owned = message;
    last_error().literal = nullptr;
  } catch (...) {
    keep_literal("[api] an error whose message found no memory");
  }
}

}  // namespace

mobilellm_status keep_current_exception() noexcept {
  try {
    throw;
  } catch (const BufferTooSmall& error) {
    keep(error.what());
    return MOBILELLM_ERROR_BUFFER_TOO_SMALL;
  } catch (const Error& error) {
    keep(error.what());
    return static_cast<mobilellm_status>(error.code());
  } catch (const std::bad_alloc&) {
    keep_literal("[api] out of memory");
    return MOBILELLM_ERROR_RESOURCE_LIMIT;
  } catch (const std::exception& error) {
    keep(error.what());
    return MOBILELLM_ERROR_INTERNAL;
  } catch (...) {
    keep_literal("[api] an exception of unknown type");
    return MOBILELLM_ERROR_INTERNAL;
  }
}

void require(const void* pointer, const char* name) {
  if (pointer == nullptr) fail(ErrorCode::kInvalidArgument, "[api] {}: got NULL, expected a pointer", name);
}

void fail_too_small(size_t capacity, size_t needed) {
  throw BufferTooSmall(fmt::format("[api] buffer: got room for {}, expected {} or more", capacity, needed));
}

}  // namespace mobilellm::c_api

using mobilellm::c_api::last_error;

extern "C" {

mobilellm_text mobilellm_last_error(void) {
  const auto& error = last_error();
  if (error.literal != nullptr) return {error.literal, std::strlen(error.literal)};
  return {error.owned.c_str(), error.owned.size()};
}

const char* mobilellm_status_name(mobilellm_status status) {
  if (status == MOBILELLM_OK) return "ok";
  if (status == MOBILELLM_ERROR_BUFFER_TOO_SMALL) return "buffer_too_small";
  return mobilellm::error_code_name(static_cast<mobilellm::ErrorCode>(status));
}

}  // extern "C"
