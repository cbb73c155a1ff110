// Search in the held text only: its length is bounded by the longest stop string and the newest piece.
#include "pipeline/stop_strings.h"

#include <algorithm>
#include <utility>

#include "base/error.h"

namespace mobilellm {
namespace {

constexpr size_t kMaxStrings = 64;
constexpr size_t kMaxBytes = 4096;

}  // namespace

StopStrings::StopStrings(std::vector<std::string> strings) {
  for (std::string& text : strings) {
    if (text.size() > kMaxBytes) {
      fail(ErrorCode::kInvalidArgument, "[stop] a stop string has {} bytes, more than {}", text.size(), kMaxBytes);
    }
    if (text.empty()) continue;
    longest_ = std::max(longest_, text.size());
    strings_.push_back(std::move(text));
  }
  if (strings_.size() > kMaxStrings) {
    fail(ErrorCode::kInvalidArgument, "[stop] got {} stop strings, at most {} are allowed", strings_.size(),
         kMaxStrings);
  }
}

std::string StopStrings::push(std::string_view text) {
  if (is_found()) return {};
  if (strings_.empty()) return std::string(text);
  held_ += text;
  size_t begin = std::string::npos;
  for (const std::string& candidate : strings_) {
    const size_t at = held_.find(candidate);
    if (at == std::string::npos) continue;
    if (at < begin || (at == begin && candidate.size() > found_.size())) {
      begin = at;
      found_ = candidate;
    }
  }
  if (is_found()) return std::exchange(held_, {}).substr(0, begin);
  // The longest tail that is a proper beginning of some stop string stays back.
  size_t keep = 0;
  for (const std::string& candidate : strings_) {
    for (size_t n = std::min(candidate.size() - 1, held_.size()); n > keep; --n) {
      if (std::string_view(held_).substr(held_.size() - n) == std::string_view(candidate).substr(0, n)) keep = n;
    }
  }
  std::string safe = held_.substr(0, held_.size() - keep);
  held_.erase(0, held_.size() - keep);
  return safe;
}

std::string StopStrings::finish() { return is_found() ? std::string() : std::exchange(held_, {}); }

}  // namespace mobilellm
