// Layout of text as Python's textwrap, pprint and markupsafe do it.
#include "chat/jinja/text_layout.h"

#include <algorithm>
#include <charconv>

#include "base/utf8.h"
#include "chat/jinja/unicode.h"

namespace mobilellm::jinja {
namespace {

constexpr size_t kPrettyWidth = 80;

// Pieces of a line that stay together, by the rules of textwrap: runs of white space, words, dashes between words; with
// `breaks_on_hyphens` words end behind hyphens that stand between letters.
class WordSplitter {
 public:
  explicit WordSplitter(std::string_view line) {
    for (size_t at = 0; at < line.size();) {
      const Utf8Char c = decode_utf8(line, at);
      text_.push_back(c.code_point);
      at += static_cast<size_t>(c.n_bytes);
    }
  }

  std::vector<std::u32string> run(bool breaks_on_hyphens) const {
    std::vector<std::u32string> chunks;
    for (size_t at = 0; at < text_.size();) {
      size_t end = at + 1;
      if (is_blank(at)) {
        while (end < text_.size() && is_blank(end)) ++end;
      } else if (const size_t n_dashes = breaks_on_hyphens && is_word_mark(at - 1) ? dashes_at(at) : 0; n_dashes >= 2) {
        end = at + n_dashes;
      } else {
        while (end < text_.size() && !is_blank(end)) {
          if (breaks_on_hyphens && ends_behind_hyphen(end)) {
            ++end;
            break;
          }
          if (breaks_on_hyphens && is_word_mark(end - 1) && dashes_at(end) >= 2) break;
          ++end;
        }
      }
      chunks.push_back(text_.substr(at, end - at));
      at = end;
    }
    return chunks;
  }

 private:
  bool is_in(size_t at) const { return at < text_.size(); }
  bool is_blank(size_t at) const { return is_in(at) && (text_[at] == ' ' || (text_[at] >= '\t' && text_[at] <= '\r')); }
  bool is_word(size_t at) const {
    return is_in(at) && (text_[at] == '_' || contains(kAlpha, text_[at]) || contains(kNumeric, text_[at]));
  }
  bool is_letter(size_t at) const { return is_word(at) && !contains(kDecimal, text_[at]); }
  bool is_hyphen(size_t at) const { return is_in(at) && text_[at] == '-'; }
  bool is_word_mark(size_t at) const {
    return is_word(at) || (is_in(at) && std::u32string_view(U"!\"'&.,?").find(text_[at]) != std::u32string_view::npos);
  }
  // Length of a run of dashes that a word follows, else 0.
  size_t dashes_at(size_t at) const {
    size_t end = at;
    while (is_hyphen(end)) ++end;
    return is_word(end) ? end - at : 0;
  }
  bool ends_behind_hyphen(size_t at) const {
    if (!is_hyphen(at)) return false;
    const bool is_behind =
        (is_letter(at - 2) && is_letter(at - 1)) || (is_letter(at - 3) && is_hyphen(at - 2) && is_word_mark(at - 1));
    return is_behind && is_letter(at + 1) && (is_letter(at + 2) || (is_hyphen(at + 2) && is_letter(at + 3)));
  }
  std::u32string text_;
};

std::string unescape_entities(std::string_view text) {
  static constexpr std::pair<std::string_view, std::string_view> kEntities[] = {
      {"amp", "&"}, {"lt", "<"}, {"gt", ">"}, {"quot", "\""}, {"apos", "'"}, {"nbsp", "\xC2\xA0"}};
  std::string out;
  for (size_t at = 0; at < text.size(); ++at) {
    const size_t end = text[at] == '&' ? text.substr(at, 12).find(';') : std::string_view::npos;
    if (end == std::string_view::npos) {
      out.push_back(text[at]);
      continue;
    }
    const std::string_view name = text.substr(at + 1, end - 1);
    bool is_known = false;
    if (name.size() > 1 && name[0] == '#') {
      const bool is_hex = name[1] == 'x' || name[1] == 'X';
      const std::string_view digits = name.substr(is_hex ? 2 : 1);
      uint32_t code = 0;
      const auto result = std::from_chars(digits.data(), digits.data() + digits.size(), code, is_hex ? 16 : 10);
      if (!digits.empty() && result.ec == std::errc() && result.ptr == digits.data() + digits.size() && code > 0 &&
          code <= 0x10FFFF && (code < 0xD800 || code >= 0xE000)) {
        append_utf8(out, code);
        is_known = true;
      }
    }
    for (const auto& [entity, replacement] : kEntities) {
      if (name != entity) continue;
      out += replacement;
      is_known = true;
    }
    if (is_known) {
      at += end;
    } else {
      out.push_back('&');
    }
  }
  return out;
}

class PrettyWriter {
 public:
  explicit PrettyWriter(Runtime& runtime) : runtime_(runtime) {}

  void write(const Value& value, size_t indent, size_t allowance) {
    const Value sorted = with_sorted_keys(value);
    const std::string repr = runtime_.to_repr(sorted);
    if (count_code_points(repr) + indent + allowance <= kPrettyWidth) {
      out_ += repr;
    } else if (sorted.is(Type::kDict)) {
      write_dict(sorted.dict(), indent, allowance);
    } else if (sorted.is_sequence() && !sorted.items().empty()) {
      write_items(sorted, indent, allowance);
    } else {
      out_ += repr;
    }
    runtime_.budget().check_text(out_.size());
  }

  std::string take() { return std::move(out_); }

 private:
  // pprint sorts the keys of dicts where they can be ordered.
  Value with_sorted_keys(const Value& value) {
    runtime_.budget().step();
    if (value.is(Type::kDict)) {
      std::vector<Value> keys;
      std::vector<Value> values;
      for (const auto& [key, item] : value.dict().entries()) {
        keys.push_back(key);
        values.push_back(with_sorted_keys(item));
      }
      const bool is_text = std::all_of(keys.begin(), keys.end(), [](const Value& key) { return key.is_string(); });
      const bool is_number = std::all_of(keys.begin(), keys.end(), [](const Value& key) { return key.is_number(); });
      if (is_text || is_number) runtime_.sort(values, keys, false);
      Value result = make<Dict>(Type::kDict, &runtime_.budget());
      for (size_t i = 0; i < keys.size(); ++i) const_cast<Dict&>(result.dict()).set(keys[i], values[i]);
      return result;
    }
    if (value.is_sequence()) {
      std::vector<Value> items;
      for (const Value& item : value.items()) items.push_back(with_sorted_keys(item));
      return value.is(Type::kList) ? runtime_.list(std::move(items)) : runtime_.tuple(std::move(items));
    }
    return value;
  }

  void write_dict(const Dict& dict, size_t indent, size_t allowance) {
    out_ += "{";
    for (size_t i = 0; i < dict.size(); ++i) {
      const auto& [key, value] = dict.entries()[i];
      const bool is_last = i + 1 == dict.size();
      const std::string key_repr = runtime_.to_repr(key);
      out_ += key_repr + ": ";
      write(value, indent + 1 + count_code_points(key_repr) + 2, is_last ? allowance + 1 : 1);
      if (!is_last) out_ += ",\n" + std::string(indent + 1, ' ');
    }
    out_ += "}";
  }

  void write_items(const Value& sequence, size_t indent, size_t allowance) {
    const std::vector<Value>& items = sequence.items();
    const bool is_list = sequence.is(Type::kList);
    const std::string_view close = is_list ? "]" : items.size() == 1 ? ",)" : ")";
    out_ += is_list ? "[" : "(";
    for (size_t i = 0; i < items.size(); ++i) {
      const bool is_last = i + 1 == items.size();
      write(items[i], indent + 1, is_last ? allowance + close.size() : 1);
      if (!is_last) out_ += ",\n" + std::string(indent + 1, ' ');
    }
    out_ += close;
  }

  Runtime& runtime_;
  std::string out_;
};

}  // namespace

std::vector<std::string_view> split_lines(std::string_view text, bool keeps_ends) {
  std::vector<std::string_view> lines;
  size_t start = 0;
  for (size_t at = 0; at < text.size();) {
    const Utf8Char c = decode_utf8(text, at);
    size_t end = at + static_cast<size_t>(c.n_bytes);
    if (is_line_break(c.code_point)) {
      if (c.code_point == '\r' && end < text.size() && text[end] == '\n') ++end;
      lines.push_back(text.substr(start, (keeps_ends ? end : at) - start));
      start = end;
    }
    at = end;
  }
  if (start < text.size()) lines.push_back(text.substr(start));
  return lines;
}

std::vector<std::string> wrap_line(std::string_view line, size_t width, bool breaks_long_words,
                                   bool breaks_on_hyphens) {
  std::vector<std::u32string> chunks = WordSplitter(line).run(breaks_on_hyphens);
  std::reverse(chunks.begin(), chunks.end());
  const auto is_blank = [](const std::u32string& chunk) { return std::all_of(chunk.begin(), chunk.end(), is_space); };
  std::vector<std::string> lines;
  while (!chunks.empty()) {
    std::vector<std::u32string> taken;
    size_t length = 0;
    if (is_blank(chunks.back()) && !lines.empty()) chunks.pop_back();
    while (!chunks.empty() && length + chunks.back().size() <= width) {
      length += chunks.back().size();
      taken.push_back(std::move(chunks.back()));
      chunks.pop_back();
    }
    if (!chunks.empty() && chunks.back().size() > width) {
      std::u32string& chunk = chunks.back();
      if (breaks_long_words) {
        size_t cut = width - length;
        if (breaks_on_hyphens && cut > 0) {
          const size_t hyphen = chunk.rfind(U'-', cut - 1);
          if (hyphen != std::u32string::npos && hyphen > 0 && chunk.find_first_not_of(U'-') < hyphen) cut = hyphen + 1;
        }
        taken.push_back(chunk.substr(0, cut));  // Also when empty: it shields white space before it, as in Python.
        chunk.erase(0, cut);
      } else if (taken.empty()) {
        taken.push_back(std::move(chunk));
        chunks.pop_back();
      }
    }
    if (!taken.empty() && is_blank(taken.back())) taken.pop_back();
    if (taken.empty()) continue;
    std::string& text = lines.emplace_back();
    for (const std::u32string& part : taken) {
      for (const char32_t c : part) append_utf8(text, c);
    }
  }
  return lines;
}

std::string join_texts(const std::vector<std::string>& parts, std::string_view separator) {
  std::string out;
  for (size_t i = 0; i < parts.size(); ++i) {
    if (i > 0) out += separator;
    out += parts[i];
  }
  return out;
}

std::string strip_tags(std::string_view text) {
  std::string without_comments;
  for (size_t at = 0; at < text.size();) {
    const size_t open = text.find("<!--", at);
    const size_t close = open == std::string_view::npos ? open : text.find("-->", open);
    if (close == std::string_view::npos) {
      without_comments += text.substr(at);
      break;
    }
    without_comments += text.substr(at, open - at);
    at = close + 3;
  }
  std::string plain;
  for (size_t at = 0; at < without_comments.size();) {
    const size_t open = without_comments.find('<', at);
    const size_t close = open == std::string::npos ? open : without_comments.find('>', open);
    if (close == std::string::npos) {
      plain += without_comments.substr(at);
      break;
    }
    plain.append(without_comments, at, open - at);
    at = close + 1;
  }
  std::string collapsed;
  for (size_t at = 0; at < plain.size();) {
    const Utf8Char c = decode_utf8(plain, at);
    const auto n = static_cast<size_t>(c.n_bytes);
    if (!is_space(c.code_point)) {
      collapsed.append(plain, at, n);
    } else if (!collapsed.empty() && collapsed.back() != ' ') {
      collapsed.push_back(' ');
    }
    at += n;
  }
  if (!collapsed.empty() && collapsed.back() == ' ') collapsed.pop_back();
  return unescape_entities(collapsed);
}

std::string pretty_repr(Runtime& runtime, const Value& value) {
  PrettyWriter writer(runtime);
  writer.write(value, 0, 0);
  return writer.take();
}

}  // namespace mobilellm::jinja
