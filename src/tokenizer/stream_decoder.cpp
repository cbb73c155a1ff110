// StreamDecoder: the decoder steps run token by token.
#include "tokenizer/stream_decoder.h"

#include "base/utf8.h"
#include "tokenizer/tokenizer_parts.h"

namespace mobilellm {

struct StreamDecoder::State {
  const Tokenizer& tokenizer;
  bool skip_special;
  DecoderRun run;
  std::string pending;  // Only for vocabularies that decode to bytes directly.
};

StreamDecoder::StreamDecoder(const Tokenizer& tokenizer, bool skip_special)
    : state_(new State{tokenizer, skip_special, DecoderRun(tokenizer.parts().decoder), {}}) {}
StreamDecoder::~StreamDecoder() = default;
StreamDecoder::StreamDecoder(StreamDecoder&&) noexcept = default;
StreamDecoder& StreamDecoder::operator=(StreamDecoder&&) noexcept = default;

std::string StreamDecoder::push(TokenId id) {
  std::string out;
  const Tokenizer& tokenizer = state_->tokenizer;
  if (!tokenizer.has_token(id) || (state_->skip_special && tokenizer.is_special(id))) return out;
  if (tokenizer.parts().decodes_bytes) {
    state_->pending += tokenizer.token_bytes(id);
    take_whole_characters(state_->pending, out);
  } else {
    state_->run.push(tokenizer.parts().decoder_text(id), out);
  }
  return out;
}

std::string StreamDecoder::flush() {
  std::string out = repair_utf8(state_->pending);
  state_->pending.clear();
  state_->run.flush(out);
  return out;
}

}  // namespace mobilellm
