/// Text of a token sequence while it grows, without ever splitting a character.
#pragma once

#include <memory>
#include <string>

#include "tokenizer/tokenizer.h"

namespace mobilellm {

/// push() every token, then flush() once: the pieces joined equal Tokenizer::decode() of all tokens.
/// Each piece is well-formed UTF-8; bytes of an unfinished character are held back until it is complete or ill-formed.
/// Not thread-safe; the tokenizer must outlive it.
class StreamDecoder {
 public:
  explicit StreamDecoder(const Tokenizer& tokenizer, bool skip_special = true);
  ~StreamDecoder();
  StreamDecoder(StreamDecoder&&) noexcept;
  StreamDecoder& operator=(StreamDecoder&&) noexcept;

  /// New text, often empty.
  std::string push(TokenId id);
  /// What was held back; afterwards the decoder is as new.
  std::string flush();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace mobilellm
