// SentencePiece models (protobuf): the few fields that a BPE vocabulary needs, by an own reader.
#include <algorithm>
#include <bit>
#include <cstring>

#include "base/error.h"
#include "base/files.h"
#include "base/utf8.h"
#include "tokenizer/tokenizer.h"
#include "tokenizer/vocabulary.h"

namespace mobilellm {
namespace {

constexpr size_t kMaxFile = size_t{256} << 20;

/// One protobuf message: gives its fields in order.
class FieldReader {
 public:
  FieldReader(std::string_view bytes, std::string_view origin) : bytes_(bytes), origin_(origin) {}

  /// False at the end. After it, exactly one of value() and text() is meaningful, by the wire type.
  bool next() {
    if (position_ == bytes_.size()) return false;
    const uint64_t key = read_varint();
    number_ = key >> 3;
    wire_type_ = static_cast<int>(key & 7);
    value_ = 0;
    text_ = {};
    switch (wire_type_) {
      case 0:
        value_ = read_varint();
        return true;
      case 1:
        text_ = take(8);
        return true;
      case 2:
        text_ = take(read_varint());
        return true;
      case 5:
        text_ = take(4);
        return true;
      default:
        fail_corrupt(fmt::format("field {} has wire type {}", number_, wire_type_));
    }
  }
  uint64_t number() const { return number_; }

  int64_t integer() const {
    expect(0, "an integer");
    return static_cast<int64_t>(value_);
  }
  std::string_view text() const {
    expect(2, "bytes");
    return text_;
  }
  float number_float() const {
    expect(5, "a float");
    uint32_t bits;
    std::memcpy(&bits, text_.data(), 4);
    return std::bit_cast<float>(bits);
  }

 private:
  [[noreturn]] void fail_corrupt(std::string_view problem) const {
    fail(ErrorCode::kCorruptData, "[tokenizer] {}: not a SentencePiece model: {} (byte {} of {})", origin_, problem,
         position_, bytes_.size());
  }
  void expect(int wire_type, std::string_view what) const {
    if (wire_type_ != wire_type) fail_corrupt(fmt::format("field {}: expected {}", number_, what));
  }
  uint64_t read_varint() {
    uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      if (position_ == bytes_.size()) fail_corrupt("the file ends inside a number");
      const auto byte = static_cast<unsigned char>(bytes_[position_++]);
      value |= uint64_t{byte & 0x7Fu} << shift;
      if (byte < 0x80) return value;
    }
    fail_corrupt("a number is longer than 64 bits");
  }
  std::string_view take(uint64_t n) {
    if (n > bytes_.size() - position_) fail_corrupt(fmt::format("field {} has {} bytes", number_, n));
    const std::string_view taken = bytes_.substr(position_, n);
    position_ += n;
    return taken;
  }

  std::string_view bytes_;
  std::string_view origin_;
  size_t position_ = 0;
  uint64_t number_ = 0;
  int wire_type_ = 0;
  uint64_t value_ = 0;
  std::string_view text_;
};

void read_piece(std::string_view bytes, std::string_view origin, GgufVocab& vocab) {
  if (vocab.tokens.size() > static_cast<size_t>(kMaxTokenId)) {
    fail(ErrorCode::kResourceLimit, "[tokenizer] {}: more than {} pieces", origin, kMaxTokenId);
  }
  std::string_view text;
  float score = 0;
  int64_t type = 1;
  for (FieldReader piece(bytes, origin); piece.next();) {
    if (piece.number() == 1) text = piece.text();
    if (piece.number() == 2) score = piece.number_float();
    if (piece.number() == 3) type = piece.integer();
  }
  if (type < 1 || type > 6) {
    fail(ErrorCode::kCorruptData, "[tokenizer] {}: piece {} has type {}, expected 1..6", origin, vocab.tokens.size(),
         type);
  }
  vocab.tokens.emplace_back(text);
  vocab.scores.push_back(score);
  vocab.token_types.push_back(static_cast<int32_t>(type));
}

void read_trainer(std::string_view bytes, std::string_view origin, GgufVocab& vocab) {
  int64_t model_type = 1;
  vocab.unk_id = 0;
  vocab.bos_id = 1;
  vocab.eos_id = 2;
  for (FieldReader trainer(bytes, origin); trainer.next();) {
    if (trainer.number() == 3) model_type = trainer.integer();
    if (trainer.number() == 40) vocab.unk_id = trainer.integer();
    if (trainer.number() == 41) vocab.bos_id = trainer.integer();
    if (trainer.number() == 42) vocab.eos_id = trainer.integer();
  }
  if (model_type != 2) {
    fail(ErrorCode::kUnsupported, "[tokenizer] {}: SentencePiece model type {} is not supported, only 2 (BPE)", origin,
         model_type);
  }
}

void read_normalizer(std::string_view bytes, std::string_view origin, GgufVocab& vocab) {
  bool removes_spaces = true;
  bool escapes_spaces = true;
  std::string_view rules;
  for (FieldReader normalizer(bytes, origin); normalizer.next();) {
    if (normalizer.number() == 2) rules = normalizer.text();
    if (normalizer.number() == 3) vocab.add_space_prefix = normalizer.integer() != 0;
    if (normalizer.number() == 4) removes_spaces = normalizer.integer() != 0;
    if (normalizer.number() == 5) escapes_spaces = normalizer.integer() != 0;
  }
  if (!rules.empty()) {
    fail(ErrorCode::kUnsupported,
         "[tokenizer] {}: SentencePiece normalization rules (precompiled_charsmap) are not supported", origin);
  }
  if (removes_spaces || !escapes_spaces) {
    fail(ErrorCode::kUnsupported,
         "[tokenizer] {}: SentencePiece remove_extra_whitespaces = {}, escape_whitespaces = {} are not supported",
         origin, removes_spaces, escapes_spaces);
  }
}

}  // namespace

std::shared_ptr<const Tokenizer> load_sentencepiece_bytes(std::string_view bytes, std::string_view origin) {
  GgufVocab vocab;
  vocab.model = "llama";
  vocab.add_space_prefix = true;
  std::string_view trainer;
  std::string_view normalizer;
  for (FieldReader model(bytes, origin); model.next();) {
    if (model.number() == 1) read_piece(model.text(), origin, vocab);
    if (model.number() == 2) trainer = model.text();
    if (model.number() == 3) normalizer = model.text();
  }
  if (vocab.tokens.empty())
    fail(ErrorCode::kCorruptData, "[tokenizer] {}: not a SentencePiece model: no pieces", origin);
  read_trainer(trainer, origin, vocab);
  read_normalizer(normalizer, origin, vocab);
  // A model without such a token has the id -1.
  for (std::optional<int64_t>* id : {&vocab.unk_id, &vocab.bos_id, &vocab.eos_id}) {
    if (*id && **id < 0) id->reset();
  }
  return load_gguf_vocab(std::move(vocab), origin);
}

std::shared_ptr<const Tokenizer> load_sentencepiece(const std::string& path) {
  return load_sentencepiece_bytes(read_file(path, kMaxFile), path);
}

std::shared_ptr<const Tokenizer> load_tokenizer_model(const std::string& path) {
  const std::string bytes = read_file(path, kMaxFile);
  // A protobuf model starts with its first piece: field 1, length-delimited. Base64 never holds that byte.
  return bytes.starts_with('\x0A') ? load_sentencepiece_bytes(bytes, path) : load_tiktoken_text(bytes, path);
}

}  // namespace mobilellm
