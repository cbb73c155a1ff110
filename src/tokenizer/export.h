/// Vocabularies on their way between tokenizer.json and GGUF.
#pragma once

#include <cstddef>
#include <optional>
#include <string>

#include "tokenizer/tokenizer.h"

namespace mobilellm {

/// The tokenizer.ggml keys that stand for a tokenizer: tokens, types, merges or scores, split rule and BOS; ids below
/// `n_tokens` without a token become "[PADn]". The split rule is the first under which all texts of
/// first_encoding_difference() give the same ids; when there is none, nothing is returned.
/// eos, unknown and padding ids are the caller's to set.
std::optional<GgufVocab> make_gguf_vocab(const Tokenizer& tokenizer, size_t n_tokens);

/// The same without the check: as near as the keys come.
GgufVocab make_nearest_gguf_vocab(const Tokenizer& tokenizer, size_t n_tokens);

/// The text of a tokenizer.json with the same meaning. Throws kUnsupported for a split rule or model that is not known.
std::string make_tokenizer_json(const GgufVocab& vocab, const std::string& origin);

/// The first of a set of difficult texts that two tokenizers encode or decode differently; nothing when there is none.
/// The texts have every kind of white space, digits, letters, marks, emoji and contractions, and the special tokens.
std::optional<std::string> first_encoding_difference(const Tokenizer& a, const Tokenizer& b);

}  // namespace mobilellm
