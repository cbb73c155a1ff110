/// Decoding of text that is known to be well-formed: no checks, for the inner loops of the tokenizer.
#pragma once

#include <cstddef>
#include <cstdint>

namespace mobilellm {

struct CharAt {
  char32_t code_point;
  uint32_t n_bytes;
};

/// The character at `p`, which must start a well-formed sequence.
inline CharAt char_at(const char* p) {
  const auto byte = [p](int i) { return static_cast<uint32_t>(static_cast<unsigned char>(p[i])); };
  const uint32_t lead = byte(0);
  if (lead < 0x80) return {lead, 1};
  if (lead < 0xE0) return {(lead & 0x1F) << 6 | (byte(1) & 0x3F), 2};
  if (lead < 0xF0) return {(lead & 0x0F) << 12 | (byte(1) & 0x3F) << 6 | (byte(2) & 0x3F), 3};
  return {(lead & 0x07) << 18 | (byte(1) & 0x3F) << 12 | (byte(2) & 0x3F) << 6 | (byte(3) & 0x3F), 4};
}

/// The character that ends right before `p`.
inline CharAt char_before(const char* p, const char* begin) {
  const char* start = p - 1;
  while (start > begin && (static_cast<unsigned char>(*start) & 0xC0) == 0x80) --start;
  return char_at(start);
}

}  // namespace mobilellm
