// Vocabularies of GGUF metadata: byte-level ("gpt2") and SentencePiece ("llama").
#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "tokenizer/gguf_pre_rules.h"
#include "tokenizer/model_builder.h"

namespace mobilellm {
namespace {

constexpr int32_t kUnknownType = 2;
constexpr int32_t kControlType = 3;
constexpr int32_t kUserType = 4;
constexpr int32_t kUnusedType = 5;
constexpr int32_t kByteType = 6;
constexpr const char* kMetaspace = "\xE2\x96\x81";

/// A special id of the metadata, checked against the vocabulary.
std::optional<TokenId> checked_id(std::optional<int64_t> id, const char* key, size_t n_tokens,
                                  std::string_view origin) {
  if (!id) return std::nullopt;
  if (*id < 0 || static_cast<uint64_t>(*id) >= n_tokens) {
    fail(ErrorCode::kCorruptData, "[tokenizer] {}: tokenizer.ggml.{}: got {}, expected 0..{}", origin, key, *id,
         n_tokens - 1);
  }
  return static_cast<TokenId>(*id);
}

std::vector<AddedToken> added_tokens(const GgufVocab& vocab) {
  std::vector<AddedToken> added;
  for (size_t i = 0; i < vocab.token_types.size(); ++i) {
    const int32_t type = vocab.token_types[i];
    if (type != kControlType && type != kUserType && type != kUnknownType) continue;
    if (vocab.tokens[i].empty()) continue;
    AddedToken token;
    token.id = static_cast<TokenId>(i);
    token.content = vocab.tokens[i];
    token.is_special = type != kUserType;
    added.push_back(std::move(token));
  }
  return added;
}

PostProcessor wrap(std::optional<TokenId> bos, std::optional<TokenId> eos) {
  PostProcessor post;
  post.has_template = bos.has_value() || eos.has_value();
  if (!post.has_template) return post;
  for (const int sequence : {0, 1}) {
    std::vector<TemplatePiece> pieces;
    if (bos) pieces.push_back({-1, {*bos}, sequence});
    pieces.push_back({sequence, {}, sequence});
    if (eos) pieces.push_back({-1, {*eos}, sequence});
    if (sequence == 0) post.single = pieces;
    post.pair.insert(post.pair.end(), pieces.begin(), pieces.end());
  }
  return post;
}

std::unique_ptr<Tokenizer::Parts> load_byte_level(const GgufVocab& vocab, std::string_view origin, bool& adds_bos) {
  const GgufPreRule rule = get_gguf_pre_rule(vocab.pre, origin);
  adds_bos = rule.adds_bos;
  std::vector<NormalizerStep> normalizers;
  if (rule.normalizes_nfc) normalizers.push_back(NormalizeForm{unicode::NormalForm::kNfc});
  ModelBuilder builder(std::string(origin), true, vocab.tokens.size(), vocab.tokens.size() * 8);
  for (size_t i = 0; i < vocab.tokens.size(); ++i) {
    builder.add_token(vocab.tokens[i], static_cast<int64_t>(i), "tokenizer.ggml.tokens");
  }
  builder.reserve_merges(vocab.merges.size());
  for (size_t i = 0; i < vocab.merges.size(); ++i) builder.add_merge_line(vocab.merges[i], i);
  BpeOptions options;
  options.ignore_merges = rule.ignore_merges;
  auto parts = builder.finish(options, added_tokens(vocab), Normalizer(std::move(normalizers)));
  parts->pre_tokenizer = PreTokenizer(make_split_steps(rule.split, origin));
  parts->decoder.emplace_back(DecodeByteLevel{});
  return parts;
}

/// Dense ranks of scores, the highest first; equal scores share a rank, so that the leftmost pair goes first.
std::vector<uint32_t> ranks_of(const std::vector<float>& scores) {
  std::vector<float> sorted = scores;
  std::sort(sorted.begin(), sorted.end(), std::greater<>());
  sorted.erase(std::unique(sorted.begin(), sorted.end()), sorted.end());
  std::vector<uint32_t> ranks(scores.size());
  for (size_t i = 0; i < scores.size(); ++i) {
    const auto found = std::lower_bound(sorted.begin(), sorted.end(), scores[i], std::greater<>());
    ranks[i] = static_cast<uint32_t>(found - sorted.begin());
  }
  return ranks;
}

std::unique_ptr<Tokenizer::Parts> load_sentencepiece_style(const GgufVocab& vocab, std::string_view origin,
                                                           std::optional<TokenId> unknown_id) {
  if (vocab.scores.size() != vocab.tokens.size()) {
    fail(ErrorCode::kCorruptData, "[tokenizer] {}: tokenizer.ggml.scores: {} values for {} tokens", origin,
         vocab.scores.size(), vocab.tokens.size());
  }
  for (size_t i = 0; i < vocab.scores.size(); ++i) {
    if (std::isnan(vocab.scores[i]))
      fail(ErrorCode::kCorruptData, "[tokenizer] {}: tokenizer.ggml.scores[{}] is not a number", origin, i);
  }
  ModelBuilder builder(std::string(origin), false, vocab.tokens.size(), vocab.tokens.size() * 8);
  for (size_t i = 0; i < vocab.tokens.size(); ++i) {
    builder.add_token(vocab.tokens[i], static_cast<int64_t>(i), "tokenizer.ggml.tokens");
  }
  const std::vector<uint32_t> ranks = ranks_of(vocab.scores);
  builder.add_all_merges([&](TokenId id) {
    const auto i = static_cast<size_t>(id);
    const int32_t type = i < vocab.token_types.size() ? vocab.token_types[i] : 1;
    const bool takes_part = type != kUnknownType && type != kControlType && type != kUnusedType && type != kByteType;
    return takes_part ? ranks[i] : MergeTable::kNoRank;
  });
  BpeOptions options;
  options.byte_fallback = true;
  options.fuse_unknown = true;
  options.unknown_id = unknown_id.value_or(-1);
  const bool adds_prefix = vocab.add_space_prefix.value_or(true);
  std::vector<NormalizerStep> normalizers;
  if (adds_prefix) normalizers.push_back(PrependText{kMetaspace});
  normalizers.push_back(ReplaceText{{" ", std::nullopt}, kMetaspace});
  auto parts = builder.finish(options, added_tokens(vocab), Normalizer(std::move(normalizers)));
  parts->decoder.emplace_back(DecodeReplace{{kMetaspace, std::nullopt}, " "});
  parts->decoder.emplace_back(DecodeByteFallback{});
  parts->decoder.emplace_back(DecodeFuse{});
  if (adds_prefix) parts->decoder.emplace_back(DecodeStrip{" ", 1, 0});
  return parts;
}

}  // namespace

std::shared_ptr<const Tokenizer> load_gguf_vocab(GgufVocab vocab, std::string_view origin) {
  const size_t n_tokens = vocab.tokens.size();
  if (n_tokens == 0) fail(ErrorCode::kCorruptData, "[tokenizer] {}: tokenizer.ggml.tokens is missing or empty", origin);
  if (!vocab.token_types.empty() && vocab.token_types.size() != n_tokens) {
    fail(ErrorCode::kCorruptData, "[tokenizer] {}: tokenizer.ggml.token_type: {} values for {} tokens", origin,
         vocab.token_types.size(), n_tokens);
  }
  const std::optional<TokenId> bos = checked_id(vocab.bos_id, "bos_token_id", n_tokens, origin);
  const std::optional<TokenId> eos = checked_id(vocab.eos_id, "eos_token_id", n_tokens, origin);
  const std::optional<TokenId> unknown = checked_id(vocab.unk_id, "unknown_token_id", n_tokens, origin);
  bool adds_bos = true;
  std::unique_ptr<Tokenizer::Parts> parts;
  if (vocab.model == "gpt2") {
    parts = load_byte_level(vocab, origin, adds_bos);
  } else if (vocab.model == "llama") {
    parts = load_sentencepiece_style(vocab, origin, unknown);
  } else {
    fail(ErrorCode::kUnsupported, "[tokenizer] {}: tokenizer.ggml.model \"{}\" is not supported", origin, vocab.model);
  }
  const bool wants_bos = vocab.add_bos.value_or(adds_bos);
  const bool wants_eos = vocab.add_eos.value_or(false);
  parts->post_processor = wrap(wants_bos ? bos : std::nullopt, wants_eos ? eos : std::nullopt);
  parts->bos_id = bos;
  parts->source = "GGUF";
  parts->finish();
  return std::make_shared<const Tokenizer>(std::move(parts));
}

}  // namespace mobilellm
