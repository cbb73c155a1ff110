/// Bounds on what one rendering may use: steps, live memory, output, depth.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/error.h"

namespace mobilellm::jinja {

inline constexpr uint64_t kMaxSteps = 10'000'000;
inline constexpr size_t kMaxLiveBytes = size_t{96} << 20;
inline constexpr size_t kMaxOutputBytes = size_t{16} << 20;
/// Nested evaluation of one rendering; keeps the C++ stack below about 1 MB.
inline constexpr int kMaxEvalDepth = 800;
/// Nesting of lists, dicts and iterators; bounds every recursion over values.
inline constexpr uint32_t kMaxValueDepth = 200;

/// A bound was passed; Runtime puts the place in the template into the message on its way out.
class LimitExceeded : public Error {
 public:
  explicit LimitExceeded(const char* what)
      : Error(ErrorCode::kResourceLimit, fmt::format("[template] {} while rendering", what)), bound_(what) {}
  /// What was passed, e.g. "too many steps"; a literal.
  const char* bound() const { return bound_; }

 private:
  const char* bound_;
};

/// Counts the use of one rendering; every method throws LimitExceeded past its bound.
class Budget {
 public:
  /// `n` units of work; about 10 ns each.
  void step(uint64_t n = 1) {
    n_steps_ += n;
    if (n_steps_ > kMaxSteps) fail_limit("too many steps");
  }
  /// Work on a text of `n` bytes.
  void step_bytes(size_t n) { step(1 + n / 32); }
  /// Live memory.
  void charge(size_t n) {
    if (n > kMaxLiveBytes - n_live_bytes_) fail_limit("too much memory");
    n_live_bytes_ += n;
  }
  void release(size_t n) noexcept { n_live_bytes_ -= n; }
  /// Checks a size before it is built.
  void check_text(size_t n) const {
    if (n > kMaxOutputBytes) fail_limit("text too long");
  }
  void check_items(size_t n) {
    if (n > kMaxSteps) fail_limit("list too long");
    step(4 * n);
  }

  [[noreturn]] static void fail_limit(const char* what) { throw LimitExceeded(what); }

 private:
  uint64_t n_steps_ = 0;
  size_t n_live_bytes_ = 0;
};

}  // namespace mobilellm::jinja
