// The GPT-2 byte alphabet: printable Latin-1 stands for itself, the rest for U+0100 onwards.
#include "tokenizer/byte_map.h"

#include <array>
#include <cstdint>

#include "base/utf8.h"

namespace mobilellm {
namespace {

constexpr size_t kEnd = 0x144;  // One past the last stand-in.

struct Maps {
  std::array<uint16_t, 256> character{};
  std::array<int16_t, kEnd> byte{};
};

constexpr Maps make_maps() {
  Maps maps;
  for (int16_t& byte : maps.byte) byte = -1;
  uint16_t next = 256;
  for (uint16_t byte = 0; byte < 256; ++byte) {
    const bool is_printable = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
    const uint16_t character = is_printable ? byte : next++;
    maps.character[byte] = character;
    maps.byte[character] = static_cast<int16_t>(byte);
  }
  return maps;
}
constexpr Maps kMaps = make_maps();

}  // namespace

std::string map_bytes(std::string_view bytes) {
  std::string out;
  out.reserve(bytes.size() + bytes.size() / 2);
  for (const char byte : bytes) append_utf8(out, kMaps.character[static_cast<unsigned char>(byte)]);
  return out;
}

bool unmap_bytes(std::string_view text, std::string& out) {
  const size_t start = out.size();
  out.resize(start + text.size());
  char* written = out.data() + start;
  const char* const end = text.data() + text.size();
  for (const char* p = text.data(); p < end; ++p) {
    // All stand-ins have one or two bytes of UTF-8.
    size_t c = static_cast<unsigned char>(*p);
    if (c >= 0x80) {
      const bool is_pair = c >= 0xC2 && c <= 0xDF && p + 1 < end && (static_cast<unsigned char>(p[1]) & 0xC0) == 0x80;
      c = is_pair ? (c & 0x1F) << 6 | (static_cast<unsigned char>(*++p) & 0x3F) : kEnd;
    }
    if (c >= kEnd || kMaps.byte[c] < 0) {
      out.resize(start);
      return false;
    }
    *written++ = static_cast<char>(kMaps.byte[c]);
  }
  out.resize(static_cast<size_t>(written - out.data()));
  return true;
}

}  // namespace mobilellm
