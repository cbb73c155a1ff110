// Tokenizer: encode and decode over the loaded parts.
#include "tokenizer/tokenizer.h"

#include <simdjson.h>

#include <algorithm>

#include "base/error.h"
#include "base/utf8.h"
#include "tokenizer/byte_map.h"
#include "tokenizer/tokenizer_parts.h"

namespace mobilellm {

Tokenizer::Parts::Parts(Bpe model, std::vector<AddedToken> added_tokens, Normalizer text_normalizer)
    : bpe(std::move(model)),
      normalizer(std::move(text_normalizer)),
      added(std::move(added_tokens), [this](std::string_view text) { return normalizer.normalize(text); }) {}

void Tokenizer::Parts::finish() {
  size_t size = std::max(bpe.vocabulary().size(), other_tokens.size());
  for (const AddedToken& token : added.tokens()) size = std::max(size, static_cast<size_t>(token.id) + 1);
  special.assign(size, false);
  for (const AddedToken& token : added.tokens()) {
    special[static_cast<size_t>(token.id)] = token.is_special;
    if (!is_byte_level()) continue;
    std::string bytes;
    if (!unmap_bytes(token.decoded, bytes)) bytes = token.decoded;
    added_bytes.push_back(std::move(bytes));
  }
  decodes_bytes = is_byte_level() && decoder.size() == 1 && std::holds_alternative<DecodeByteLevel>(decoder[0]);
}

bool Tokenizer::Parts::has_token(TokenId id) const {
  return bpe.vocabulary().has(id) || added.find(id) != nullptr || other_tokens.has(id);
}

std::string Tokenizer::Parts::token_text(TokenId id) const {
  if (const AddedToken* const token = added.find(id)) return token->content;
  if (other_tokens.has(id)) return std::string(other_tokens.text(id));
  const std::string_view text = bpe.vocabulary().text(id);
  return is_byte_level() ? map_bytes(text) : std::string(text);
}

std::string Tokenizer::Parts::decoder_text(TokenId id) const {
  const AddedToken* const token = added.find(id);
  return token != nullptr ? token->decoded : token_text(id);
}

Tokenizer::Tokenizer(std::unique_ptr<const Parts> parts) : parts_(std::move(parts)) {}
Tokenizer::~Tokenizer() = default;

namespace {

/// Ids of one text without the post-processor.
std::vector<TokenId> encode_plain(const Tokenizer::Parts& parts, std::string_view text, bool parse_special) {
  std::vector<TokenId> ids;
  if (text.empty()) return ids;
  std::string repaired;
  if (!simdjson::validate_utf8(text.data(), text.size())) {
    repaired = repair_utf8(text);
    text = repaired;
  }
  ids.reserve(text.size() / 3 + 8);
  Bpe::Scratch scratch(text.size(), parse_special ? nullptr : &parts.special);
  std::vector<TextPart> raw_parts;
  parts.added.split(text, false, parse_special, raw_parts);
  std::vector<TextPart> normalized_parts;
  for (const TextPart& raw : raw_parts) {
    if (raw.id >= 0) {
      ids.push_back(raw.id);
      continue;
    }
    const bool at_start = raw.text.data() == text.data();
    std::string normalized;
    std::string_view part = raw.text;
    if (!parts.normalizer.empty()) {
      normalized = parts.normalizer.normalize(part);
      part = normalized;
    }
    if (!parts.added.has_any(true)) {
      if (!part.empty()) parts.pre_tokenizer.encode(part, at_start, parts.bpe, ids, scratch);
      continue;
    }
    normalized_parts.clear();
    parts.added.split(part, true, parse_special, normalized_parts);
    for (const TextPart& inner : normalized_parts) {
      if (inner.id >= 0) {
        ids.push_back(inner.id);
      } else {
        parts.pre_tokenizer.encode(inner.text, at_start && inner.text.data() == part.data(), parts.bpe, ids, scratch);
      }
    }
  }
  return ids;
}

}  // namespace

std::vector<TokenId> Tokenizer::encode(std::string_view text, EncodeOptions options) const {
  std::vector<TokenId> ids = encode_plain(*parts_, text, options.parse_special);
  const PostProcessor& post = parts_->post_processor;
  if (!options.add_special || !post.has_template) return ids;
  std::vector<TokenId> out;
  out.reserve(ids.size() + 4);
  for (const TemplatePiece& piece : post.single) {
    const std::vector<TokenId>& source = piece.sequence == 0 ? ids : piece.ids;
    out.insert(out.end(), source.begin(), source.end());
  }
  return out;
}

PairEncoding Tokenizer::encode_pair(std::string_view first, std::string_view second, EncodeOptions options) const {
  const std::vector<TokenId> texts[2] = {encode_plain(*parts_, first, options.parse_special),
                                         encode_plain(*parts_, second, options.parse_special)};
  PairEncoding out;
  const auto append = [&out](const std::vector<TokenId>& ids, int32_t type_id) {
    out.ids.insert(out.ids.end(), ids.begin(), ids.end());
    out.type_ids.resize(out.ids.size(), type_id);
  };
  const PostProcessor& post = parts_->post_processor;
  if (!options.add_special || !post.has_template) {
    append(texts[0], 0);
    append(texts[1], 1);
    return out;
  }
  for (const TemplatePiece& piece : post.pair) {
    append(piece.sequence >= 0 ? texts[piece.sequence] : piece.ids, piece.type_id);
  }
  return out;
}

std::string Tokenizer::decode(std::span<const TokenId> ids, bool skip_special) const {
  std::string out;
  if (parts_->decodes_bytes) {
    for (const TokenId id : ids) {
      if (skip_special && is_special(id)) continue;
      if (const AddedToken* const token = parts_->added.find(id)) {
        out += parts_->added_bytes[static_cast<size_t>(token - parts_->added.tokens().data())];
      } else if (parts_->bpe.vocabulary().has(id)) {
        out += parts_->bpe.vocabulary().text(id);
      } else {
        out += parts_->other_tokens.text(id);
      }
    }
    return is_valid_utf8(out) ? out : repair_utf8(out);
  }
  DecoderRun run(parts_->decoder);
  for (const TokenId id : ids) {
    if (has_token(id) && !(skip_special && is_special(id))) run.push(parts_->decoder_text(id), out);
  }
  run.flush(out);
  return out;
}

std::string Tokenizer::token_bytes(TokenId id) const {
  return token_bytes_mid_text(parts_->decoder, parts_->decoder_text(id));
}

std::string Tokenizer::token_text(TokenId id) const { return parts_->token_text(id); }

std::optional<TokenId> Tokenizer::find(std::string_view token_text) const {
  if (const AddedToken* const token = parts_->added.find(token_text)) return token->id;
  TokenId id = -1;
  if (parts_->is_byte_level()) {
    std::string bytes;
    if (unmap_bytes(token_text, bytes)) id = parts_->bpe.vocabulary().find(bytes);
    if (id < 0) id = parts_->other_tokens.find(token_text);
  } else {
    id = parts_->bpe.vocabulary().find(token_text);
  }
  return id < 0 ? std::nullopt : std::optional(id);
}

bool Tokenizer::is_special(TokenId id) const {
  return id >= 0 && static_cast<size_t>(id) < parts_->special.size() && parts_->special[static_cast<size_t>(id)];
}

bool Tokenizer::has_token(TokenId id) const { return parts_->has_token(id); }

size_t Tokenizer::vocab_size() const { return parts_->special.size(); }

std::optional<TokenId> Tokenizer::bos_id() const { return parts_->bos_id; }

std::string Tokenizer::description() const {
  return fmt::format("BPE ({}), {} ids, {} merges, {} added tokens, from {}",
                     parts_->is_byte_level()               ? "byte-level"
                     : parts_->bpe.options().byte_fallback ? "characters with byte fallback"
                                                           : "characters",
                     vocab_size(), parts_->bpe.merges().size(), parts_->added.tokens().size(), parts_->source);
}

}  // namespace mobilellm
