/// Input of the commands, text of a file or of standard input, whole or line by line; and lines of JSON as output.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "base/json.h"

namespace mobilellm::cli {

/// Reads lines of any number of bytes up to a limit, with the end of line removed. Before it would wait for input it
/// flushes standard output, so that a program at the other end of two pipes gets each answer in time.
class LineReader {
 public:
  /// `path` "-" is standard input. Throws kNotFound or kIo naming the path.
  explicit LineReader(const std::string& path);
  ~LineReader();
  LineReader(const LineReader&) = delete;
  LineReader& operator=(const LineReader&) = delete;

  /// The next line, or nothing at the end. Throws kResourceLimit for a line above 256 MB.
  std::optional<std::string> next();
  /// "line 3 of questions.jsonl", for messages about the line read last.
  std::string where() const;

 private:
  bool fill();

  std::string name_;
  int descriptor_;
  bool owns_descriptor_;
  bool is_at_end_ = false;
  std::string buffer_;
  size_t begin_ = 0;
  size_t n_lines_ = 0;
};

/// A JSON value as one line. Line separators of Unicode (U+0085, U+2028, U+2029) are escaped, because many readers of
/// lines split there.
std::string json_line(const Json& value);

/// Everything in a file, or in standard input when `path` is "-", up to 256 MB.
std::string read_input(const std::string& path);

/// Throws kInvalidArgument with the first bad byte's offset when `text` is not UTF-8; the message begins with `origin`.
void require_utf8(std::string_view text, const std::string& origin);

}  // namespace mobilellm::cli
