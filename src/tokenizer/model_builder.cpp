// Building of vocabulary and merges with every check on the way.
#include "tokenizer/model_builder.h"

#include <algorithm>
#include <unordered_map>

#include "base/error.h"
#include "base/utf8.h"
#include "tokenizer/byte_map.h"

namespace mobilellm {
namespace {

// Bytes hashed while all splits of all tokens are looked up: seconds at most.
constexpr uint64_t kMaxSplitWork = uint64_t{1} << 32;

constexpr size_t kMergeBatch = 32;

/// Start of a token's text for an error message, always well-formed.
std::string shown(std::string_view text) {
  return repair_utf8(text.size() > 60 ? std::string(text.substr(0, 60)) + "..." : std::string(text));
}

}  // namespace

ModelBuilder::ModelBuilder(std::string origin, bool is_byte_level, size_t n_tokens, size_t n_bytes)
    : origin_(std::move(origin)), is_byte_level_(is_byte_level) {
  if (n_tokens > static_cast<size_t>(kMaxTokenId) + 1) {
    fail(ErrorCode::kResourceLimit, "[tokenizer] {}: {} tokens, at most {} are allowed", origin_, n_tokens,
         kMaxTokenId + 1);
  }
  vocabulary_.reserve(n_tokens, n_bytes);
}

void ModelBuilder::add_token(std::string_view text, int64_t id, std::string_view where) {
  if (!is_byte_level_) {
    if (!is_valid_utf8(text)) {
      fail(ErrorCode::kCorruptData, "[tokenizer] {}: {}: token {} is not UTF-8: \"{}\"", origin_, where, id,
           shown(text));
    }
    add_raw_token(text, id, where);
    return;
  }
  buffer_.clear();
  if (unmap_bytes(text, buffer_)) {
    add_raw_token(buffer_, id, where);
    return;
  }
  if (id < 0 || id > kMaxTokenId) add_raw_token(text, id, where);  // Throws.
  if (vocabulary_.has(static_cast<TokenId>(id)) ||
      other_.add(text, static_cast<TokenId>(id)) != Vocabulary::Added::kNew) {
    fail(ErrorCode::kCorruptData, "[tokenizer] {}: {}: token \"{}\" or its id {} appears twice", origin_, where,
         shown(text), id);
  }
}

void ModelBuilder::add_raw_token(std::string_view bytes, int64_t id, std::string_view where) {
  if (id < 0 || id > kMaxTokenId) {
    fail(ErrorCode::kCorruptData, "[tokenizer] {}: {}: token \"{}\" has the id {}, expected 0..{}", origin_, where,
         shown(bytes), id, kMaxTokenId);
  }
  const auto token_id = static_cast<TokenId>(id);
  const Vocabulary::Added added = other_.has(token_id) ? Vocabulary::Added::kIdTaken : vocabulary_.add(bytes, token_id);
  if (added == Vocabulary::Added::kNew) return;
  const std::string written = is_byte_level_ ? map_bytes(bytes) : std::string(bytes);
  if (added == Vocabulary::Added::kTextTaken) {
    fail(ErrorCode::kCorruptData, "[tokenizer] {}: {}: token \"{}\" appears twice, with the ids {} and {}", origin_,
         where, shown(written), vocabulary_.find(bytes), id);
  }
  const std::string_view other = vocabulary_.has(token_id) ? vocabulary_.text(token_id) : other_.text(token_id);
  fail(ErrorCode::kCorruptData, "[tokenizer] {}: {}: id {} is given to two tokens, \"{}\" and \"{}\"", origin_, where,
       id, shown(is_byte_level_ ? map_bytes(other) : std::string(other)), shown(written));
}

TokenId ModelBuilder::find(std::string_view text) const {
  if (!is_byte_level_) return vocabulary_.find(text);
  std::string bytes;
  if (unmap_bytes(text, bytes)) return vocabulary_.find(bytes);
  return other_.find(text);
}

void ModelBuilder::add_merge(std::string_view left, std::string_view right, size_t rank) {
  const size_t start = pending_text_.size();
  size_t n_left = left.size();
  bool is_mergeable = true;
  if (is_byte_level_) {
    is_mergeable = unmap_bytes(left, pending_text_);
    n_left = pending_text_.size() - start;
    is_mergeable = is_mergeable && unmap_bytes(right, pending_text_);
  } else {
    pending_text_.append(left).append(right);
  }
  if (!is_mergeable) {
    // Such tokens are never made from text, so the merge never happens; it must still name tokens.
    pending_text_.resize(start);
    for (const std::string_view part : {left, right}) {
      if (find(part) < 0) {
        fail(ErrorCode::kCorruptData, "[tokenizer] {}: model.merges[{}]: \"{}\" is not in the vocabulary", origin_,
             rank, shown(part));
      }
    }
    return;
  }
  if (left.empty() || right.empty()) {
    fail(ErrorCode::kCorruptData, "[tokenizer] {}: model.merges[{}] has an empty part", origin_, rank);
  }
  const std::string_view whole = std::string_view(pending_text_).substr(start);
  PendingMerge merge{left, right, rank, start, n_left, whole.size(), {}, {}};
  const std::string_view texts[3] = {whole.substr(0, n_left), whole.substr(n_left), whole};
  for (int i = 0; i < 3; ++i) {
    merge.keys[i] = make_text_key(texts[i]);
    vocabulary_.prefetch(merge.keys[i]);
  }
  pending_.push_back(merge);
  if (pending_.size() == kMergeBatch) take_pending_merges();
}

void ModelBuilder::take_pending_merges() {
  for (PendingMerge& merge : pending_) {
    const std::string_view whole = std::string_view(pending_text_).substr(merge.start, merge.n_whole);
    const std::string_view texts[3] = {whole.substr(0, merge.n_left), whole.substr(merge.n_left), whole};
    for (int i = 0; i < 3; ++i) merge.ids[i] = vocabulary_.find(texts[i], merge.keys[i]);
    if (merge.ids[0] < 0 || merge.ids[1] < 0 || merge.ids[2] < 0) {
      const std::string missing = merge.ids[0] < 0   ? std::string(merge.left)
                                  : merge.ids[1] < 0 ? std::string(merge.right)
                                                     : std::string(merge.left) + std::string(merge.right);
      fail(ErrorCode::kCorruptData, "[tokenizer] {}: model.merges[{}]: \"{}\" is not in the vocabulary", origin_,
           merge.rank, shown(missing));
    }
    merges_.prefetch(merge.ids[0], merge.ids[1]);
  }
  for (const PendingMerge& merge : pending_) {
    merges_.set(merge.ids[0], merge.ids[1], {static_cast<uint32_t>(merge.rank), merge.ids[2]});
  }
  pending_.clear();
  pending_text_.clear();
}

void ModelBuilder::add_merge_line(std::string_view line, size_t rank) {
  const size_t space = line.find(' ');
  if (space == std::string_view::npos || line.find(' ', space + 1) != std::string_view::npos) {
    fail(ErrorCode::kCorruptData,
         "[tokenizer] {}: model.merges[{}]: got \"{}\", expected two tokens with a space between", origin_, rank,
         shown(line));
  }
  add_merge(line.substr(0, space), line.substr(space + 1), rank);
}

void ModelBuilder::add_all_merges(const std::function<uint32_t(TokenId)>& rank_of) {
  uint64_t work = 0;
  for (size_t i = 0; i < vocabulary_.size(); ++i) {
    const uint64_t length = vocabulary_.text(static_cast<TokenId>(i)).size();
    work += length * length;
    if (work > kMaxSplitWork) {
      fail(ErrorCode::kResourceLimit,
           "[tokenizer] {}: the tokens are too long to derive merges from them (token {} has {} bytes)", origin_, i,
           length);
    }
  }
  for (size_t i = 0; i < vocabulary_.size(); ++i) {
    const auto id = static_cast<TokenId>(i);
    const uint32_t rank = vocabulary_.has(id) ? rank_of(id) : MergeTable::kNoRank;
    if (rank == MergeTable::kNoRank) continue;
    const std::string_view text = vocabulary_.text(id);
    for (size_t cut = 1; cut < text.size(); ++cut) {
      if (!is_byte_level_ && (static_cast<unsigned char>(text[cut]) & 0xC0) == 0x80) continue;
      const TokenId left = vocabulary_.find(text.substr(0, cut));
      if (left < 0 || (rank_of(left) == MergeTable::kNoRank)) continue;
      const TokenId right = vocabulary_.find(text.substr(cut));
      if (right < 0 || (rank_of(right) == MergeTable::kNoRank)) continue;
      merges_.set(left, right, {rank, id});
    }
  }
}

void ModelBuilder::check_added_tokens(const std::vector<AddedToken>& tokens) const {
  std::unordered_map<std::string_view, TokenId> by_content;
  std::unordered_map<TokenId, std::string_view> by_id;
  for (const AddedToken& token : tokens) {
    if (token.content.size() > TokenTrie::kMaxContent) {
      fail(ErrorCode::kResourceLimit, "[tokenizer] {}: added_tokens: id {} has {} bytes, at most {} are allowed",
           origin_, token.id, token.content.size(), TokenTrie::kMaxContent);
    }
    const auto same_id = by_id.emplace(token.id, token.content);
    if (!same_id.second) {
      fail(ErrorCode::kCorruptData, "[tokenizer] {}: added_tokens: id {} is given to two tokens, \"{}\" and \"{}\"",
           origin_, token.id, shown(same_id.first->second), shown(token.content));
    }
    const auto same_content = by_content.emplace(token.content, token.id);
    if (!same_content.second) {
      fail(ErrorCode::kCorruptData, "[tokenizer] {}: added_tokens: \"{}\" appears twice, with the ids {} and {}",
           origin_, shown(token.content), same_content.first->second, token.id);
    }
    const TokenId in_vocabulary = find(token.content);
    if (in_vocabulary >= 0 ? in_vocabulary != token.id : has(token.id)) {
      fail(ErrorCode::kCorruptData, "[tokenizer] {}: added_tokens: \"{}\" has the id {}, but the vocabulary has {}",
           origin_, shown(token.content), token.id,
           in_vocabulary >= 0 ? fmt::format("it at {}", in_vocabulary) : std::string("another token there"));
    }
  }
}

std::unique_ptr<Tokenizer::Parts> ModelBuilder::finish(BpeOptions options, std::vector<AddedToken> added,
                                                       Normalizer normalizer) {
  options.is_byte_level = is_byte_level_;
  take_pending_merges();
  check_added_tokens(added);
  auto parts = std::make_unique<Tokenizer::Parts>(Bpe(std::move(vocabulary_), std::move(merges_), options),
                                                  std::move(added), std::move(normalizer));
  parts->other_tokens = std::move(other_);
  return parts;
}

bool simplify_steps(std::vector<PreTokenizerStep>& steps, bool may_be_byte_level) {
  const bool is_byte_level = may_be_byte_level && !steps.empty() &&
                             std::holds_alternative<MapBytesStep>(steps.back()) &&
                             std::count_if(steps.begin(), steps.end(),
                                           [](const auto& s) { return std::holds_alternative<MapBytesStep>(s); }) == 1;
  if (is_byte_level) steps.pop_back();
  for (size_t i = 0; i + 1 < steps.size(); ++i) {
    const auto* const digits = std::get_if<ClassStep>(&steps[i]);
    const auto* const scan = std::get_if<ScanStep>(&steps[i + 1]);
    if (digits != nullptr && scan != nullptr && digits->character_class == ClassStep::Class::kNumber &&
        digits->behavior == SplitBehavior::kIsolated && scan->scan == scan_gpt2) {
      steps[i] = ScanStep{scan_digits_gpt2};
      steps.erase(steps.begin() + static_cast<ptrdiff_t>(i) + 1);
    }
  }
  return is_byte_level;
}

}  // namespace mobilellm
