/// The printable stand-ins for bytes that byte-level vocabularies are written in ("\u0120" for a space).
#pragma once

#include <string>
#include <string_view>

namespace mobilellm {

/// Every byte as its character.
std::string map_bytes(std::string_view bytes);
/// Appends the bytes that `text` stands for; false (and nothing appended) when a character stands for none or is
/// ill-formed.
bool unmap_bytes(std::string_view text, std::string& out);

}  // namespace mobilellm
