// UTF-8 after the Unicode standard, section 3.9 (table 3-7 for well-formed sequences).
#include "base/utf8.h"

namespace mobilellm {

Utf8Char decode_utf8(std::string_view text, size_t offset) {
  if (offset >= text.size()) return {};
  const auto byte_at = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = byte_at(offset);
  if (lead < 0x80) return {lead, 1, true, false};
  int n_bytes = 0;
  unsigned char low = 0x80;
  unsigned char high = 0xBF;
  char32_t code_point = 0;
  if (lead >= 0xC2 && lead <= 0xDF) {
    n_bytes = 2;
    code_point = lead & 0x1F;
  } else if (lead >= 0xE0 && lead <= 0xEF) {
    n_bytes = 3;
    code_point = lead & 0x0F;
    if (lead == 0xE0) low = 0xA0;
    if (lead == 0xED) high = 0x9F;
  } else if (lead >= 0xF0 && lead <= 0xF4) {
    n_bytes = 4;
    code_point = lead & 0x07;
    if (lead == 0xF0) low = 0x90;
    if (lead == 0xF4) high = 0x8F;
  } else {
    return {kReplacementChar, 1, false, false};
  }
  for (int i = 1; i < n_bytes; ++i) {
    if (offset + static_cast<size_t>(i) >= text.size()) return {kReplacementChar, i, false, true};
    const unsigned char next = byte_at(offset + static_cast<size_t>(i));
    if (next < low || next > high) return {kReplacementChar, i, false, false};
    low = 0x80;
    high = 0xBF;
    code_point = (code_point << 6) | (next & 0x3F);
  }
  return {code_point, n_bytes, true, false};
}

void append_utf8(std::string& out, char32_t code_point) {
  const auto put = [&](char32_t byte) { out.push_back(static_cast<char>(byte)); };
  if (code_point < 0x80) {
    put(code_point);
  } else if (code_point < 0x800) {
    put(0xC0 | (code_point >> 6));
    put(0x80 | (code_point & 0x3F));
  } else if (code_point < 0x10000) {
    put(0xE0 | (code_point >> 12));
    put(0x80 | ((code_point >> 6) & 0x3F));
    put(0x80 | (code_point & 0x3F));
  } else {
    put(0xF0 | (code_point >> 18));
    put(0x80 | ((code_point >> 12) & 0x3F));
    put(0x80 | ((code_point >> 6) & 0x3F));
    put(0x80 | (code_point & 0x3F));
  }
}

bool is_valid_utf8(std::string_view text) {
  for (size_t i = 0; i < text.size();) {
    const Utf8Char c = decode_utf8(text, i);
    if (!c.is_valid) return false;
    i += static_cast<size_t>(c.n_bytes);
  }
  return true;
}

std::string repair_utf8(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size();) {
    const Utf8Char c = decode_utf8(text, i);
    if (c.is_valid) {
      out.append(text.substr(i, static_cast<size_t>(c.n_bytes)));
    } else {
      append_utf8(out, kReplacementChar);
    }
    i += static_cast<size_t>(c.n_bytes);
  }
  return out;
}

size_t count_code_points(std::string_view text) {
  size_t n = 0;
  for (const char c : text) n += (static_cast<unsigned char>(c) & 0xC0) != 0x80;
  return n;
}

size_t incomplete_utf8_tail(std::string_view text) {
  const size_t n = text.size();
  for (size_t back = 1; back <= 3 && back <= n; ++back) {
    const unsigned char c = static_cast<unsigned char>(text[n - back]);
    if ((c & 0xC0) == 0x80) continue;
    if (c < 0xC0) return 0;
    const Utf8Char decoded = decode_utf8(text, n - back);
    return decoded.is_truncated && static_cast<size_t>(decoded.n_bytes) == back ? back : 0;
  }
  return 0;
}

}  // namespace mobilellm
