// Decoder steps as stages of a stream. Before a fusing step each push is one whole token, after it a part of the only
// one.
#include "tokenizer/decoder.h"

#include "base/utf8.h"
#include "tokenizer/byte_map.h"
#include "tokenizer/utf8_scan.h"

namespace mobilellm {
namespace {

/// The byte of "<0xNN>", -1 for other tokens.
int byte_of_token(std::string_view token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token[5] != '>') return -1;
  int value = 0;
  for (const char c : token.substr(3, 2)) {
    const int digit = c >= '0' && c <= '9'   ? c - '0'
                      : c >= 'A' && c <= 'F' ? c - 'A' + 10
                      : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                             : -1;
    if (digit < 0) return -1;
    value = value * 16 + digit;
  }
  return value;
}

std::string unmap_or_keep(std::string_view token) {
  std::string bytes;
  if (!unmap_bytes(token, bytes)) bytes = token;
  return bytes;
}

/// Drops up to `limit` copies of `content` from the front; returns how many.
size_t strip_front(std::string_view& text, std::string_view content, size_t limit) {
  size_t n = 0;
  for (; n < limit && text.starts_with(content); ++n) text.remove_prefix(content.size());
  return n;
}

size_t strip_back(std::string_view& text, std::string_view content, size_t limit) {
  size_t n = 0;
  for (; n < limit && text.ends_with(content); ++n) text.remove_suffix(content.size());
  return n;
}

}  // namespace

void take_whole_characters(std::string& pending, std::string& out) {
  const size_t n_ready = pending.size() - incomplete_utf8_tail(pending);
  if (n_ready == 0) return;
  out += repair_utf8(std::string_view(pending).substr(0, n_ready));
  pending.erase(0, n_ready);
}

/// One step; `next` is nullptr for the last, which writes to the output.
class DecoderRun::Stage {
 public:
  virtual ~Stage() = default;
  virtual void push(std::string_view token, std::string& out) = 0;
  /// Gives out what is held back and forgets everything.
  virtual void flush(std::string& out) = 0;
  Stage* next = nullptr;

 protected:
  void emit(std::string_view token, std::string& out) {
    if (next == nullptr) {
      out += token;
    } else {
      next->push(token, out);
    }
  }
};

namespace {

using Stage = DecoderRun::Stage;

class ByteLevelStage : public Stage {
 public:
  void push(std::string_view token, std::string& out) override {
    pending_ += unmap_or_keep(token);
    std::string ready;
    take_whole_characters(pending_, ready);
    if (!ready.empty()) emit(ready, out);
  }
  void flush(std::string& out) override {
    if (!pending_.empty()) emit(repair_utf8(pending_), out);
    pending_.clear();
  }

 private:
  std::string pending_;
};

class MetaspaceStage : public Stage {
 public:
  MetaspaceStage(const DecodeMetaspace& step, bool is_fused) : step_(step), is_fused_(is_fused) {}
  void push(std::string_view token, std::string& out) override {
    const bool strips = is_first_ && step_.strips_first;
    if (!is_fused_) is_first_ = false;
    emit(replace_all(token, TextPattern{step_.replacement, std::nullopt}, strips ? "" : " "), out);
  }
  void flush(std::string&) override { is_first_ = true; }

 private:
  const DecodeMetaspace& step_;
  bool is_fused_;
  bool is_first_ = true;
};

class ReplaceStage : public Stage {
 public:
  explicit ReplaceStage(const DecodeReplace& step) : step_(step) {}
  void push(std::string_view token, std::string& out) override {
    emit(replace_all(token, step_.pattern, step_.content), out);
  }
  void flush(std::string&) override {}

 private:
  const DecodeReplace& step_;
};

class ByteFallbackStage : public Stage {
 public:
  void push(std::string_view token, std::string& out) override {
    const int byte = byte_of_token(token);
    if (byte >= 0) {
      run_.push_back(static_cast<char>(byte));
      return;
    }
    flush(out);
    emit(token, out);
  }
  // A run is judged as a whole, so none of it is certain before it ends.
  void flush(std::string& out) override {
    if (run_.empty()) return;
    if (is_valid_utf8(run_)) {
      emit(run_, out);
    } else {
      for (size_t i = 0; i < run_.size(); ++i) emit("\xEF\xBF\xBD", out);
    }
    run_.clear();
  }

 private:
  std::string run_;
};

class FuseStage : public Stage {
 public:
  void push(std::string_view token, std::string& out) override { emit(token, out); }
  void flush(std::string&) override {}
};

class StripStage : public Stage {
 public:
  StripStage(const DecodeStrip& step, bool is_fused) : step_(step), is_fused_(is_fused), left_(step.start) {}
  void push(std::string_view token, std::string& out) override {
    if (!is_fused_) {
      strip_front(token, step_.content, step_.start);
      strip_back(token, step_.content, step_.stop);
      emit(token, out);
      return;
    }
    if (left_ > 0) {
      left_ -= strip_front(token, step_.content, left_);
      if (token.empty()) return;
      left_ = 0;
    }
    if (step_.stop == 0) {
      emit(token, out);
      return;
    }
    held_ += token;
    std::string_view ready = held_;
    const size_t n_held = strip_back(ready, step_.content, step_.stop);
    const std::string text(ready);
    held_.clear();
    for (size_t i = 0; i < n_held; ++i) held_ += step_.content;
    if (!text.empty()) emit(text, out);
  }
  void flush(std::string&) override {
    left_ = step_.start;
    held_.clear();
  }

 private:
  const DecodeStrip& step_;
  bool is_fused_;
  size_t left_;       // Copies that may still go from the front.
  std::string held_;  // Copies that go if nothing follows.
};

class JoinStage : public Stage {
 public:
  void push(std::string_view token, std::string& out) override {
    emit(is_first_ ? std::string(token) : " " + std::string(token), out);
    is_first_ = false;
  }
  void flush(std::string&) override { is_first_ = true; }

 private:
  bool is_first_ = true;
};

/// Puts a step that needs whole tokens behind a fusing one: waits for the end.
class WaitStage : public Stage {
 public:
  void push(std::string_view token, std::string&) override { text_ += token; }
  void flush(std::string& out) override {
    emit(text_, out);
    text_.clear();
  }

 private:
  std::string text_;
};

}  // namespace

DecoderRun::DecoderRun(const std::vector<DecoderStep>& steps) {
  bool is_fused = false;
  const auto wait_if_fused = [&] {
    if (is_fused) stages_.push_back(std::make_unique<WaitStage>());
  };
  for (const DecoderStep& step : steps) {
    if (std::holds_alternative<DecodeByteLevel>(step)) {
      wait_if_fused();
      stages_.push_back(std::make_unique<ByteLevelStage>());
      is_fused = true;
    } else if (const auto* metaspace = std::get_if<DecodeMetaspace>(&step)) {
      stages_.push_back(std::make_unique<MetaspaceStage>(*metaspace, is_fused));
    } else if (const auto* replace = std::get_if<DecodeReplace>(&step)) {
      wait_if_fused();
      stages_.push_back(std::make_unique<ReplaceStage>(*replace));
    } else if (std::holds_alternative<DecodeByteFallback>(step)) {
      wait_if_fused();
      stages_.push_back(std::make_unique<ByteFallbackStage>());
    } else if (std::holds_alternative<DecodeFuse>(step)) {
      stages_.push_back(std::make_unique<FuseStage>());
      is_fused = true;
    } else if (const auto* strip = std::get_if<DecodeStrip>(&step)) {
      stages_.push_back(std::make_unique<StripStage>(*strip, is_fused));
    } else {
      stages_.push_back(std::make_unique<JoinStage>());
    }
  }
  for (size_t i = 0; i + 1 < stages_.size(); ++i) stages_[i]->next = stages_[i + 1].get();
}
DecoderRun::~DecoderRun() = default;
DecoderRun::DecoderRun(DecoderRun&&) noexcept = default;
DecoderRun& DecoderRun::operator=(DecoderRun&&) noexcept = default;

void DecoderRun::push(std::string_view token, std::string& out) {
  if (stages_.empty()) {
    out += token;
  } else {
    stages_.front()->push(token, out);
  }
}

void DecoderRun::flush(std::string& out) {
  for (const auto& stage : stages_) stage->flush(out);
}

std::string token_bytes_mid_text(const std::vector<DecoderStep>& steps, std::string_view token) {
  std::string text(token);
  bool is_fused = false;
  for (const DecoderStep& step : steps) {
    if (std::holds_alternative<DecodeByteLevel>(step)) {
      if (!is_fused) text = unmap_or_keep(text);
      is_fused = true;
    } else if (const auto* metaspace = std::get_if<DecodeMetaspace>(&step)) {
      text = replace_all(text, TextPattern{metaspace->replacement, std::nullopt}, " ");
    } else if (const auto* replace = std::get_if<DecodeReplace>(&step)) {
      // Matching needs well-formed text, which the parts of a character are not.
      if (!is_fused) text = replace_all(text, replace->pattern, replace->content);
    } else if (std::holds_alternative<DecodeByteFallback>(step)) {
      if (const int byte = byte_of_token(text); byte >= 0 && !is_fused) return std::string(1, static_cast<char>(byte));
    } else if (std::holds_alternative<DecodeFuse>(step)) {
      is_fused = true;
    } else if (const auto* strip = std::get_if<DecodeStrip>(&step); strip != nullptr && !is_fused) {
      std::string_view rest = text;
      strip_front(rest, strip->content, strip->start);
      strip_back(rest, strip->content, strip->stop);
      text = std::string(rest);
    }
  }
  return text;
}

}  // namespace mobilellm
