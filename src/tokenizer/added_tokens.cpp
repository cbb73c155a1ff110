// Matching of added tokens, with the flags of the `tokenizers` package.
#include "tokenizer/added_tokens.h"

#include <algorithm>
#include <cstring>

#include "tokenizer/unicode_tables.h"
#include "tokenizer/utf8_scan.h"

namespace mobilellm {

void TokenTrie::add(std::string_view text, uint32_t index) {
  if (text.empty()) return;
  uint32_t node = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    const auto [child, is_new] = children_.try_emplace(uint64_t{node} << 8 | byte, static_cast<uint32_t>(ends_.size()));
    if (is_new) {
      ends_.push_back(kNone);
      if (i == 0) {
        roots_[byte] = child->second;
        ++n_first_bytes_;
        only_first_byte_ = text[0];
      }
    }
    node = child->second;
  }
  if (ends_[node] == kNone) ends_[node] = index;
}

bool TokenTrie::match(std::string_view text, size_t from, size_t& begin, size_t& end, uint32_t& index) const {
  if (n_first_bytes_ == 0) return false;
  for (size_t start = from; start < text.size(); ++start) {
    if (n_first_bytes_ == 1) {
      const void* const found = std::memchr(text.data() + start, only_first_byte_, text.size() - start);
      if (found == nullptr) return false;
      start = static_cast<size_t>(static_cast<const char*>(found) - text.data());
    }
    uint32_t node = roots_[static_cast<unsigned char>(text[start])];
    if (node == 0) continue;
    size_t best_end = 0;
    for (size_t i = start + 1;; ++i) {
      if (ends_[node] != kNone) {
        best_end = i;
        index = ends_[node];
      }
      if (i == text.size()) break;
      const auto child = children_.find(uint64_t{node} << 8 | static_cast<unsigned char>(text[i]));
      if (child == children_.end()) break;
      node = child->second;
    }
    if (best_end != 0) {
      begin = start;
      end = best_end;
      return true;
    }
  }
  return false;
}

void AddedTokens::note(uint32_t index) {
  const auto id = static_cast<size_t>(tokens_[index].id);
  if (id >= by_id_.size()) by_id_.resize(id + 1, -1);
  by_id_[id] = static_cast<int32_t>(index);
  by_content_.emplace(tokens_[index].content, index);
}

const AddedToken* AddedTokens::find(std::string_view content) const {
  const auto found = by_content_.find(content);
  return found == by_content_.end() ? nullptr : &tokens_[found->second];
}

void AddedTokens::split(std::string_view text, bool in_normalized, bool parse_special,
                        std::vector<TextPart>& parts) const {
  const TokenTrie& trie = in_normalized ? normalized_ : raw_;
  const char* const data = text.data();
  const char* const text_end = data + text.size();
  size_t done = 0;
  size_t begin = 0;
  size_t end = 0;
  uint32_t index = 0;
  size_t from = 0;
  while (trie.match(text, from, begin, end, index)) {
    from = end;  // The search goes on right after the match, whether it counts or not.
    const AddedToken& token = tokens_[index];
    if (token.is_special && !parse_special) continue;
    if (token.single_word) {
      const bool touches_before =
          begin > 0 && (unicode::class_of(char_before(data + begin, data).code_point) & unicode::kWord) != 0;
      const bool touches_after =
          end < text.size() && (unicode::class_of(char_at(data + end).code_point) & unicode::kWord) != 0;
      if (touches_before || touches_after) continue;
    }
    if (token.lstrip) {
      const char* p = data + begin;
      while (p > data) {
        const CharAt c = char_before(p, data);
        if ((unicode::class_of(c.code_point) & unicode::kSpace) == 0) break;
        p -= c.n_bytes;
      }
      begin = std::max(static_cast<size_t>(p - data), done);
    }
    if (token.rstrip) {
      const char* p = data + end;
      while (p < text_end) {
        const CharAt c = char_at(p);
        if ((unicode::class_of(c.code_point) & unicode::kSpace) == 0) break;
        p += c.n_bytes;
      }
      end = static_cast<size_t>(p - data);
    }
    if (done < begin) parts.push_back({-1, text.substr(done, begin - done)});
    parts.push_back({token.id, text.substr(begin, end - begin)});
    done = end;
  }
  if (done < text.size()) parts.push_back({-1, text.substr(done)});
}

}  // namespace mobilellm
