// One automaton per stop string; the longest partial match decides how much is held back.
#include "pipeline/stop_strings.h"

#include <algorithm>
#include <utility>

#include "base/error.h"

namespace mobilellm {
namespace {

constexpr size_t kMaxStrings = 64;
constexpr size_t kMaxBytes = 4096;

// Length of the match after one more character.
size_t advance(const std::string& text, const std::vector<size_t>& fallback, size_t n_matched, char c) {
  while (n_matched > 0 && text[n_matched] != c) n_matched = fallback[n_matched - 1];
  return text[n_matched] == c ? n_matched + 1 : 0;
}

}  // namespace

StopStrings::StopStrings(const std::vector<std::string>& strings) {
  for (const std::string& text : strings) {
    if (text.size() > kMaxBytes) {
      fail(ErrorCode::kInvalidArgument, "[stop] a stop string has {} bytes, more than {}", text.size(), kMaxBytes);
    }
    if (text.empty()) continue;
    Pattern pattern{text, std::vector<size_t>(text.size(), 0)};
    for (size_t i = 1; i < text.size(); ++i) {
      pattern.fallback[i] = advance(text, pattern.fallback, pattern.fallback[i - 1], text[i]);
    }
    patterns_.push_back(std::move(pattern));
  }
  if (patterns_.size() > kMaxStrings) {
    fail(ErrorCode::kInvalidArgument, "[stop] got {} stop strings, at most {} are allowed", patterns_.size(),
         kMaxStrings);
  }
}

const std::string& StopStrings::found() const {
  static const std::string kNothing;
  return found_ == nullptr ? kNothing : found_->text;
}

std::string StopStrings::push(std::string_view text) {
  if (is_found()) return {};
  if (patterns_.empty()) return std::string(text);
  size_t n_held = 0;
  for (const char c : text) {
    held_ += c;
    n_held = 0;
    for (Pattern& pattern : patterns_) {
      pattern.n_matched = advance(pattern.text, pattern.fallback, pattern.n_matched, c);
      n_held = std::max(n_held, pattern.n_matched);
      if (pattern.n_matched < pattern.text.size()) continue;
      if (found_ == nullptr || pattern.text.size() > found_->text.size()) found_ = &pattern;
    }
    if (!is_found()) continue;
    held_.resize(held_.size() - found_->text.size());
    return std::exchange(held_, {});
  }
  if (text.empty()) return {};
  std::string safe = held_.substr(0, held_.size() - n_held);
  held_.erase(0, held_.size() - n_held);
  return safe;
}

std::string StopStrings::finish() { return is_found() ? std::string() : std::exchange(held_, {}); }

}  // namespace mobilellm
