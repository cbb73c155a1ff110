/// Text to token ids and back: the one interface for tokenizer.json, tiktoken, SentencePiece and GGUF vocabularies.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace mobilellm {

using TokenId = int32_t;

struct EncodeOptions {
  /// Apply the post-processor (BOS and the like).
  bool add_special = false;
  /// Special tokens written in the text become their ids, as in the `tokenizers` package. With false they are ordinary
  /// text, so that a user's text cannot forge them; added tokens that are not special are recognised either way.
  bool parse_special = true;
};

/// Two texts in one sequence; type_ids[i] says which template part ids[i] came from (0 or 1 in practice).
struct PairEncoding {
  std::vector<TokenId> ids;
  std::vector<int32_t> type_ids;
};

/// A vocabulary with everything around it: normalizer, pre-tokenizer, merges, post-processor, decoder.
/// Immutable after loading; any thread may use it.
class Tokenizer {
 public:
  using EncodeOptions = mobilellm::EncodeOptions;
  struct Parts;  // Private to the module: tokenizer_parts.h.

  explicit Tokenizer(std::unique_ptr<const Parts> parts);
  ~Tokenizer();
  Tokenizer(const Tokenizer&) = delete;
  Tokenizer& operator=(const Tokenizer&) = delete;

  /// Ill-formed UTF-8 is repaired first: one U+FFFD per maximal ill-formed subpart.
  /// Throws kResourceLimit when a downloaded regular expression needs more steps than its limit allows.
  std::vector<TokenId> encode(std::string_view text, EncodeOptions options = {}) const;
  PairEncoding encode_pair(std::string_view first, std::string_view second, EncodeOptions options = {}) const;

  /// The text of a whole sequence, always well-formed UTF-8. Ids that have no token are left out.
  std::string decode(std::span<const TokenId> ids, bool skip_special = false) const;

  /// Raw bytes that a token adds in the middle of a text (may be part of a character). Empty for an id without a token.
  std::string token_bytes(TokenId id) const;
  /// The token as written in the vocabulary ("\u0120the"). Empty for an id without a token.
  std::string token_text(TokenId id) const;
  /// Id of a token as written in the vocabulary, added tokens included.
  std::optional<TokenId> find(std::string_view token_text) const;
  bool is_special(TokenId id) const;
  /// True for ids that have a token; false for holes and ids outside the vocabulary.
  bool has_token(TokenId id) const;
  /// Highest id + 1.
  size_t vocab_size() const;
  /// The id that the post-processor puts in front of a text, or that the file names as BOS.
  std::optional<TokenId> bos_id() const;
  /// For `inspect`, e.g. "BPE (byte-level), 128256 tokens, 280147 merges, 256 added, from tokenizer.json".
  std::string description() const;

  const Parts& parts() const { return *parts_; }

 private:
  std::unique_ptr<const Parts> parts_;
};

/// Reads a tokenizer.json of the `tokenizers` package (model type BPE). Throws kNotFound, kIo, kCorruptData for a file
/// that breaks its own rules, kUnsupported naming a component that is not known, kResourceLimit.
std::shared_ptr<const Tokenizer> load_tokenizer_json(const std::string& path);
/// The same from text; `origin` (a file name) leads every error.
std::shared_ptr<const Tokenizer> load_tokenizer_json_text(std::string_view json, std::string_view origin);

/// Reads Llama-3's tokenizer.model: lines of base64 token and rank, split and special tokens as in Llama-3.1.
std::shared_ptr<const Tokenizer> load_tiktoken(const std::string& path);
std::shared_ptr<const Tokenizer> load_tiktoken_text(std::string_view text, std::string_view origin);

/// Reads a SentencePiece model (protobuf) of type BPE; other types are kUnsupported.
std::shared_ptr<const Tokenizer> load_sentencepiece(const std::string& path);
std::shared_ptr<const Tokenizer> load_sentencepiece_bytes(std::string_view bytes, std::string_view origin);

/// tokenizer.model of either kind: SentencePiece protobuf or tiktoken lines, told apart by content.
std::shared_ptr<const Tokenizer> load_tokenizer_model(const std::string& path);

/// The tokenizer.ggml.* keys of a GGUF file, as plain values. An absent key is an empty vector or optional.
struct GgufVocab {
  std::string model;                 ///< "gpt2" (byte-level BPE) or "llama" (SentencePiece).
  std::string pre;                   ///< Split rule of a "gpt2" vocabulary: "llama-bpe", "qwen2", "smollm", ...
  std::vector<std::string> tokens;   ///< By id.
  std::vector<int32_t> token_types;  ///< 1 normal, 2 unknown, 3 control, 4 user defined, 5 unused, 6 byte.
  std::vector<std::string> merges;   ///< "a b" in rank order; only "gpt2".
  std::vector<float> scores;         ///< Only "llama": the higher of two merges goes first.
  std::optional<int64_t> bos_id, eos_id, unk_id, padding_id;
  std::optional<bool> add_bos, add_eos, add_space_prefix;
};
std::shared_ptr<const Tokenizer> load_gguf_vocab(GgufVocab vocab, std::string_view origin);

}  // namespace mobilellm
