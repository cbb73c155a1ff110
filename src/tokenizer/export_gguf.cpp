// From a loaded tokenizer to the keys of a GGUF file, with the split rule found by trying.
#include <fmt/core.h>

#include <algorithm>

#include "base/error.h"
#include "tokenizer/export.h"
#include "tokenizer/gguf_pre_rules.h"
#include "tokenizer/tokenizer_parts.h"

namespace mobilellm {
namespace {

constexpr int32_t kNormalType = 1;
constexpr int32_t kUnknownType = 2;
constexpr int32_t kControlType = 3;
constexpr int32_t kUserType = 4;
constexpr int32_t kUnusedType = 5;
constexpr int32_t kByteType = 6;

struct RankedPair {
  uint32_t rank;
  TokenId left, right, whole;
};

std::vector<RankedPair> ranked_merges(const Bpe& bpe) {
  std::vector<RankedPair> pairs;
  pairs.reserve(bpe.merges().size());
  bpe.merges().for_each_pair([&](TokenId left, TokenId right) {
    const MergeTable::Merge merge = bpe.merges().find(left, right);
    pairs.push_back({merge.rank, left, right, merge.id});
  });
  std::sort(pairs.begin(), pairs.end(), [](const RankedPair& a, const RankedPair& b) { return a.rank < b.rank; });
  return pairs;
}

int32_t type_of(const Tokenizer::Parts& parts, TokenId id) {
  const BpeOptions& options = parts.bpe.options();
  if (id == options.unknown_id) return kUnknownType;
  if (const AddedToken* added = parts.added.find(id)) return added->is_special ? kControlType : kUserType;
  if (!options.is_byte_level && options.byte_fallback && parts.bpe.byte_of(id) >= 0) return kByteType;
  return kNormalType;
}

void add_tokens(const Tokenizer& tokenizer, size_t n_tokens, GgufVocab& vocab) {
  for (size_t i = 0; i < std::max(n_tokens, tokenizer.vocab_size()); ++i) {
    const auto id = static_cast<TokenId>(i);
    const bool has_token = tokenizer.has_token(id);
    vocab.tokens.push_back(has_token ? tokenizer.token_text(id) : fmt::format("[PAD{}]", i));
    vocab.token_types.push_back(has_token ? type_of(tokenizer.parts(), id) : kUnusedType);
  }
}

// Readers merge the pair whose result has the highest score: the rank of the first merge that makes a token.
void add_scores(const Tokenizer::Parts& parts, GgufVocab& vocab) {
  const std::vector<RankedPair> merges = ranked_merges(parts.bpe);
  // What no merge makes comes after everything that one does.
  vocab.scores.assign(vocab.tokens.size(), -static_cast<float>(merges.size() + 1));
  float score = 0;
  for (const RankedPair& merge : merges) {
    float& value = vocab.scores[static_cast<size_t>(merge.whole)];
    if (value == -static_cast<float>(merges.size() + 1)) value = score--;
  }
}

/// The one token that a template puts before (or after) a text.
std::optional<TokenId> added_by_template(const PostProcessor& post, bool in_front) {
  if (post.single.empty()) return std::nullopt;
  const TemplatePiece& piece = in_front ? post.single.front() : post.single.back();
  if (piece.sequence >= 0 || piece.ids.size() != 1) return std::nullopt;
  return piece.ids.front();
}

/// Whether the vocabulary means to readers of GGUF what it means here.
bool is_same(const GgufVocab& vocab, const Tokenizer& tokenizer) {
  try {
    return !first_encoding_difference(*load_gguf_vocab(vocab, "the new vocabulary"), tokenizer);
  } catch (const Error&) {
    return false;
  }
}

std::optional<GgufVocab> find_split_rule(const Tokenizer& tokenizer, GgufVocab vocab) {
  for (const char* name : gguf_pre_names()) {
    const GgufPreRule rule = get_gguf_pre_rule(name, "");
    if (rule.ignore_merges != tokenizer.parts().bpe.options().ignore_merges) continue;
    vocab.pre = name;
    if (is_same(vocab, tokenizer)) return vocab;
  }
  return std::nullopt;
}

}  // namespace

GgufVocab make_nearest_gguf_vocab(const Tokenizer& tokenizer, size_t n_tokens) {
  const Tokenizer::Parts& parts = tokenizer.parts();
  GgufVocab vocab;
  add_tokens(tokenizer, n_tokens, vocab);
  const std::optional<TokenId> first = added_by_template(parts.post_processor, true);
  const std::optional<TokenId> last = added_by_template(parts.post_processor, false);
  vocab.add_bos = first.has_value();
  vocab.add_eos = last.has_value();
  vocab.pre = "default";
  const std::optional<TokenId> bos = first ? first : tokenizer.bos_id();
  if (bos) vocab.bos_id = *bos;
  if (last) vocab.eos_id = *last;
  if (parts.bpe.options().unknown_id >= 0) vocab.unk_id = parts.bpe.options().unknown_id;
  if (parts.is_byte_level()) {
    vocab.model = "gpt2";
    for (const RankedPair& merge : ranked_merges(parts.bpe)) {
      vocab.merges.push_back(tokenizer.token_text(merge.left) + " " + tokenizer.token_text(merge.right));
    }
  } else {
    vocab.model = "llama";
    add_scores(parts, vocab);
  }
  return vocab;
}

std::optional<GgufVocab> make_gguf_vocab(const Tokenizer& tokenizer, size_t n_tokens) {
  GgufVocab vocab = make_nearest_gguf_vocab(tokenizer, n_tokens);
  if (tokenizer.parts().is_byte_level()) return find_split_rule(tokenizer, std::move(vocab));
  for (const bool adds_space : {true, false}) {
    vocab.add_space_prefix = adds_space;
    if (is_same(vocab, tokenizer)) return vocab;
  }
  return std::nullopt;
}

}  // namespace mobilellm
