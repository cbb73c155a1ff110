// Finds boxed answers: brace matching over a whole text and over a stream.
#include "chat/parsers/boxed.h"

#include <algorithm>
#include <array>

namespace mobilellm {
namespace {

constexpr std::string_view kBoxed = "\\boxed";
constexpr std::string_view kFbox = "\\fbox";
// A placeholder is at most this long without its spaces; longer contents need not be kept.
constexpr size_t kMaxPlaceholderBytes = 16;

bool is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f' || c == '\v'; }
bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

// The box whose command starts at `begin`, or nothing when it is unclosed.
std::optional<BoxedAnswer> read_box(std::string_view text, size_t begin, size_t command_bytes) {
  size_t at = begin + command_bytes;
  while (at < text.size() && is_space(text[at])) ++at;
  BoxedAnswer box;
  box.begin = begin;
  if (at < text.size() && text[at] == '{') {
    size_t depth = 0;
    for (size_t i = at; i < text.size(); ++i) {
      if (text[i] == '\\') {
        ++i;  // The next character is a literal (or starts a command's name, never a brace).
      } else if (text[i] == '{') {
        ++depth;
      } else if (text[i] == '}' && --depth == 0) {
        box.content = std::string(text.substr(at + 1, i - at - 1));
        box.end = i + 1;
        return box;
      }
    }
    return std::nullopt;
  }
  size_t end = std::min(text.find('$', at), text.size());
  while (end > at && is_space(text[end - 1])) --end;
  box.content = std::string(text.substr(at, end - at));
  box.end = end;
  return box;
}

// Calls `visit(begin)` for the commands of the text from the last to the first until it returns true.
template <typename Visit>
void visit_backwards(std::string_view text, std::string_view command, Visit visit) {
  size_t at = text.size();
  while ((at = text.rfind(command, at)) != std::string_view::npos) {
    const size_t after = at + command.size();
    const bool is_command = after == text.size() || !is_letter(text[after]);
    if (is_command && visit(at)) return;
    if (at == 0) return;
    --at;
  }
}

}  // namespace

bool is_boxed_placeholder(std::string_view content) {
  std::string squeezed;
  for (const char c : content) {
    if (is_space(c)) continue;
    if (squeezed.size() == kMaxPlaceholderBytes) return false;
    squeezed.push_back(c);
  }
  static constexpr std::array<std::string_view, 8> kPlaceholders = {"",       ".",       "..",      "...",
                                                                    "\\dots", "\\ldots", "\\cdots", "\xE2\x80\xA6"};
  for (const std::string_view placeholder : kPlaceholders) {
    if (squeezed == placeholder) return true;
  }
  return false;
}

std::optional<BoxedAnswer> find_last_box(std::string_view text) {
  for (const std::string_view command : {kBoxed, kFbox}) {
    std::optional<BoxedAnswer> box;
    bool is_found = false;
    visit_backwards(text, command, [&](size_t begin) {
      is_found = true;
      box = read_box(text, begin, command.size());
      return true;
    });
    if (box) box->is_fbox = command == kFbox;
    if (is_found) return box;
  }
  return std::nullopt;
}

std::optional<BoxedAnswer> find_last_boxed(std::string_view text) {
  for (const std::string_view command : {kBoxed, kFbox}) {
    std::optional<BoxedAnswer> answer;
    bool is_decided = false;
    // Placeholders never contain a box, so the texts read here do not overlap and the walk stays linear.
    visit_backwards(text, command, [&](size_t begin) {
      answer = read_box(text, begin, command.size());
      is_decided = !answer || !is_boxed_placeholder(answer->content);
      return is_decided;
    });
    if (!is_decided) continue;
    if (answer) answer->is_fbox = command == kFbox;
    return answer;
  }
  return std::nullopt;
}

std::optional<size_t> BoxedScanner::push(std::string_view piece) {
  std::optional<size_t> found;
  for (const char c : piece) {
    const std::optional<size_t> end = step(c);
    if (end && !found) found = end;
  }
  return found;
}

std::optional<size_t> BoxedScanner::step(char c) {
  ++offset_;
  if (depth_ == 0) {
    if (n_matched_ == kBoxed.size()) {
      if (is_space(c)) return std::nullopt;
      if (c == '{') {
        depth_ = 1;
        content_.clear();
      }
      n_matched_ = c == '\\' ? 1 : 0;
    } else if (c == kBoxed[n_matched_]) {
      ++n_matched_;
    } else {
      n_matched_ = c == '\\' ? 1 : 0;
    }
    return std::nullopt;
  }
  if (is_escaped_) {
    is_escaped_ = false;
  } else if (c == '\\') {
    is_escaped_ = true;
  } else if (c == '{') {
    ++depth_;
  } else if (c == '}' && --depth_ == 0) {
    if (is_boxed_placeholder(content_)) return std::nullopt;
    return offset_;
  }
  if (!is_space(c) && content_.size() <= kMaxPlaceholderBytes) content_.push_back(c);
  return std::nullopt;
}

}  // namespace mobilellm
