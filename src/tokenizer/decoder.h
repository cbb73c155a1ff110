/// Decoders of tokenizer.json: tokens as written in the vocabulary back to text.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "tokenizer/normalizer.h"

namespace mobilellm {

struct DecodeByteLevel {};  ///< Stand-in characters to bytes, ill-formed UTF-8 to U+FFFD, all tokens to one.
struct DecodeMetaspace {
  std::string replacement;
  bool strips_first;  ///< Replacements in the first token vanish.
};
struct DecodeReplace {
  TextPattern pattern;
  std::string content;
};
struct DecodeByteFallback {};  ///< Runs of "<0xNN>" to characters; an ill-formed run to one U+FFFD per byte.
struct DecodeFuse {};          ///< All tokens to one.
struct DecodeStrip {
  std::string content;  ///< One character.
  size_t start;         ///< At most so many go from the front of each token,
  size_t stop;          ///< and so many from the back.
};
struct DecodeJoin {};  ///< What a file without decoder means: a space between tokens.

using DecoderStep = std::variant<DecodeByteLevel, DecodeMetaspace, DecodeReplace, DecodeByteFallback, DecodeFuse,
                                 DecodeStrip, DecodeJoin>;

/// Runs decoder steps over a growing sequence. What it has given out never changes; what may still change is held back.
/// The steps must outlive it.
class DecoderRun {
 public:
  explicit DecoderRun(const std::vector<DecoderStep>& steps);
  ~DecoderRun();
  DecoderRun(DecoderRun&&) noexcept;
  DecoderRun& operator=(DecoderRun&&) noexcept;

  /// Appends to `out` what the next token makes certain.
  void push(std::string_view token, std::string& out);
  /// The end of the sequence; afterwards the run is as new.
  void flush(std::string& out);

  class Stage;

 private:
  std::vector<std::unique_ptr<Stage>> stages_;
};

/// Bytes in, whole characters out: appends the certain part of `pending` to `out` and leaves the unfinished character.
void take_whole_characters(std::string& pending, std::string& out);

/// What one token adds in the middle of a text, as raw bytes.
std::string token_bytes_mid_text(const std::vector<DecoderStep>& steps, std::string_view token);

}  // namespace mobilellm
