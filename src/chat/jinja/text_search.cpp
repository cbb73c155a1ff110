// Linear-time search for a text in another.
#include "chat/jinja/text_search.h"

#include <cstring>

namespace mobilellm::jinja {

TextSearch::TextSearch(Budget& budget, std::string_view text, std::string_view wanted, bool is_from_right)
    : budget_(budget), text_(text), wanted_(wanted), is_from_right_(is_from_right) {
  budget_.step_bytes(text.size());
  if (wanted.empty() || wanted.size() > text.size()) return;
  budget_.step(wanted.size() / 8);
  budget_.charge(wanted.size() * sizeof(uint32_t));
  n_charged_ = wanted.size() * sizeof(uint32_t);
  borders_.resize(wanted.size());
  for (size_t i = 1, n_matched = 0; i < wanted.size(); ++i) {
    while (n_matched > 0 && wanted_at(i) != wanted_at(n_matched)) n_matched = borders_[n_matched - 1];
    if (wanted_at(i) == wanted_at(n_matched)) ++n_matched;
    borders_[i] = static_cast<uint32_t>(n_matched);
  }
}

TextSearch::~TextSearch() { budget_.release(n_charged_); }

size_t TextSearch::find(size_t begin, size_t end) const {
  if (wanted_.empty()) return is_from_right_ ? end : begin;
  if (wanted_.size() > end - begin) return std::string_view::npos;
  const char first = wanted_at(0);
  const size_t n = end - begin;
  size_t n_matched = 0;
  for (size_t i = 0; i < n; ++i) {
    if (n_matched == 0 && !is_from_right_) {
      const void* next = std::memchr(text_.data() + begin + i, first, n - i);
      if (next == nullptr) return std::string_view::npos;
      i = static_cast<size_t>(static_cast<const char*>(next) - text_.data()) - begin;
    }
    const char c = is_from_right_ ? text_[end - 1 - i] : text_[begin + i];
    while (n_matched > 0 && c != wanted_at(n_matched)) n_matched = borders_[n_matched - 1];
    if (c == wanted_at(n_matched)) ++n_matched;
    if (n_matched == wanted_.size()) return is_from_right_ ? end - 1 - i : begin + i + 1 - wanted_.size();
  }
  return std::string_view::npos;
}

}  // namespace mobilellm::jinja
