/// Search for a text in another, in linear time whatever the two contain.
#pragma once

#include <string_view>
#include <vector>

#include "chat/jinja/budget.h"

namespace mobilellm::jinja {

/// Knuth-Morris-Pratt, because std::string_view::find takes n * m on periodic texts.
/// Any number of searches over parts that do not overlap takes O(n + m) together.
class TextSearch {
 public:
  /// Pays for one pass over `text`, and for the memory of the table while it lives. The texts must outlive it.
  TextSearch(Budget& budget, std::string_view text, std::string_view wanted, bool is_from_right = false);
  ~TextSearch();
  TextSearch(const TextSearch&) = delete;
  TextSearch& operator=(const TextSearch&) = delete;

  /// Byte offset in the text of the first (from the right: last) match within [begin, end), npos when there is none.
  size_t find(size_t begin, size_t end) const;

 private:
  char wanted_at(size_t i) const { return is_from_right_ ? wanted_[wanted_.size() - 1 - i] : wanted_[i]; }

  Budget& budget_;
  std::string_view text_;
  std::string_view wanted_;
  bool is_from_right_;
  size_t n_charged_ = 0;
  std::vector<uint32_t> borders_;  // [i]: length of the longest proper border of the first i + 1 bytes.
};

}  // namespace mobilellm::jinja
