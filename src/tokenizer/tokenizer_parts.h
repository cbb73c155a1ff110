/// What loaders put together and Tokenizer runs.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tokenizer/added_tokens.h"
#include "tokenizer/bpe.h"
#include "tokenizer/decoder.h"
#include "tokenizer/normalizer.h"
#include "tokenizer/post_processor.h"
#include "tokenizer/pretokenizer.h"

namespace mobilellm {

struct Tokenizer::Parts {
  Parts(Bpe model, std::vector<AddedToken> added_tokens, Normalizer text_normalizer);

  Bpe bpe;
  Vocabulary other_tokens;  ///< Byte-level: vocabulary entries whose text stands for no bytes; never made from text.
  Normalizer normalizer;
  AddedTokens added;
  PreTokenizer pre_tokenizer;
  PostProcessor post_processor;
  std::vector<DecoderStep> decoder;
  std::optional<TokenId> bos_id;
  std::string source;  ///< "tokenizer.json", "tiktoken", ...

  bool is_byte_level() const { return bpe.options().is_byte_level; }
  bool has_token(TokenId id) const;
  std::string token_text(TokenId id) const;
  std::string decoder_text(TokenId id) const;  ///< What the decoder steps get for a token.

  std::vector<std::string> added_bytes;  ///< Byte-level: bytes of added tokens, in the order of added.tokens().
  std::vector<bool> special;             ///< By id; as long as the vocabulary.
  bool decodes_bytes = false;            ///< The decoder is ByteLevel alone and the vocabulary is bytes.
  /// Sets the members above from the others; the last step of loading.
  void finish();
};

}  // namespace mobilellm
