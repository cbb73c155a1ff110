/// Small whole-file reads and path questions, with errors that name the path.
#pragma once

#include <string>
#include <string_view>

namespace mobilellm {

/// The whole file. Throws kNotFound, kIo (a directory, FIFO or device is refused before reading) or kResourceLimit.
std::string read_file(const std::string& path, size_t max_bytes);
bool file_exists(const std::string& path);  ///< A regular file (links are followed).
bool directory_exists(const std::string& path);
std::string join_path(std::string_view directory, std::string_view name);
std::string file_name(std::string_view path);         ///< The last component.
std::string parent_directory(std::string_view path);  ///< "." when there is none.

/// True for what may name a file inside a given folder: no separators, no "." and "..", no control characters, at most
/// 255 bytes.
bool is_plain_file_name(std::string_view name);

}  // namespace mobilellm
