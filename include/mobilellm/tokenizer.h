/// Text to token ids and back.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "mobilellm/export.h"

namespace mobilellm {

struct TokenizeOptions {
  /// Add what the model expects around a text (usually BOS in front).
  bool add_special = false;
  /// Special tokens written in the text, e.g. "<|eot_id|>", become their ids. Off by default, so that a user's text
  /// cannot forge them; added tokens that are not special are recognised either way.
  bool parse_special = false;
};

/// A vocabulary with its rules. Immutable: any number of threads may use one at once. Copies are cheap and share the
/// vocabulary, which lives as long as one of them; one that came from Model::tokenizer() keeps the whole model in
/// memory.
///
///     auto tokenizer = mobilellm::TextTokenizer::load("models/MobileLLM-R1-140M");
///     std::vector<int32_t> ids = tokenizer.encode("Hello");
///     std::string text = tokenizer.decode(ids);  // "Hello"
class MOBILELLM_API TextTokenizer {
 public:
  /// Reads the tokenizer alone, from a folder that may hold nothing else or from a .gguf file. Throws kNotFound, kIo,
  /// kCorruptData, kUnsupported or kResourceLimit.
  static TextTokenizer load(const std::string& path);

  std::vector<int32_t> encode(std::string_view text, const TokenizeOptions& options = {}) const;
  /// Always well-formed UTF-8: bytes that make no character become U+FFFD. Ids without a token are left out.
  std::string decode(std::span<const int32_t> ids, bool skip_special = false) const;

  /// Raw bytes that a token adds to a text, maybe part of a character. Empty for an id without a token.
  std::string token_bytes(int32_t id) const;
  /// Id of a token as written in the vocabulary, e.g. "<|eot_id|>".
  std::optional<int32_t> find(std::string_view token_text) const;
  bool is_special(int32_t id) const;
  /// Highest id + 1.
  size_t vocab_size() const;
  std::optional<int32_t> bos_id() const;
  /// One line for people: kind, sizes, origin.
  std::string description() const;

 private:
  friend class Model;
  struct State;
  explicit TextTokenizer(std::shared_ptr<const State> state);
  std::shared_ptr<const State> state_;
};

}  // namespace mobilellm
