// Error names, exit statuses and checked arithmetic.
#include "base/error.h"

namespace mobilellm {
namespace {

struct ErrorRow {
  ErrorCode code;
  const char* name;
  int exit_status;
};

constexpr ErrorRow kRows[] = {
    {ErrorCode::kInvalidArgument, "invalid_argument", 2},
    {ErrorCode::kNotFound, "not_found", 1},
    {ErrorCode::kIo, "io", 1},
    {ErrorCode::kCorruptData, "corrupt_data", 1},
    {ErrorCode::kUnsupported, "unsupported", 1},
    {ErrorCode::kResourceLimit, "resource_limit", 1},
    {ErrorCode::kContextExceeded, "context_exceeded", 1},
    {ErrorCode::kTemplate, "template", 1},
    {ErrorCode::kCancelled, "cancelled", 1},
    {ErrorCode::kInternal, "internal", 1},
};

}  // namespace

int exit_status(ErrorCode code) noexcept {
  for (const ErrorRow& row : kRows) {
    if (row.code == code) return row.exit_status;
  }
  return 1;
}

const char* error_code_name(ErrorCode code) noexcept {
  for (const ErrorRow& row : kRows) {
    if (row.code == code) return row.name;
  }
  return "unknown";
}

size_t checked_mul(size_t a, size_t b, const char* what) {
  size_t result = 0;
  if (__builtin_mul_overflow(a, b, &result)) {
    fail(ErrorCode::kCorruptData, "[size] {}: {} * {} does not fit in {} bits", what, a, b, sizeof(size_t) * 8);
  }
  return result;
}

size_t checked_add(size_t a, size_t b, const char* what) {
  size_t result = 0;
  if (__builtin_add_overflow(a, b, &result)) {
    fail(ErrorCode::kCorruptData, "[size] {}: {} + {} does not fit in {} bits", what, a, b, sizeof(size_t) * 8);
  }
  return result;
}

}  // namespace mobilellm
