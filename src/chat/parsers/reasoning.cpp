// Splits streamed text at reasoning tags without ever giving out part of a tag.
#include "chat/parsers/reasoning.h"

#include <algorithm>
#include <array>

#include "base/error.h"

namespace mobilellm {
namespace {

// One line per convention; a new family's tags go here.
constexpr std::array<ReasoningTags, 2> kConventions = {{
    {ReasoningConvention::kNone, "none", "", ""},
    {ReasoningConvention::kThinkTags, "think", "<think>", "</think>"},
}};

bool is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

// The longest suffix of `text` that is a proper prefix of `tag`.
size_t partial_tag_bytes(std::string_view text, std::string_view tag) {
  for (size_t n = std::min(text.size(), tag.size() - 1); n > 0; --n) {
    if (text.substr(text.size() - n) == tag.substr(0, n)) return n;
  }
  return 0;
}

}  // namespace

const ReasoningTags& reasoning_tags(ReasoningConvention convention) {
  for (const ReasoningTags& tags : kConventions) {
    if (tags.convention == convention) return tags;
  }
  fail(ErrorCode::kInternal, "[reasoning] unknown convention {}", static_cast<int>(convention));
}

ReasoningParser::ReasoningParser(ReasoningConvention convention, bool starts_inside)
    : tags_(&reasoning_tags(convention)), state_(State::kBefore) {
  if (convention == ReasoningConvention::kNone) {
    is_at_part_start_ = false;  // Plain text: white space at its start belongs to it.
    state_ = State::kAfter;
  } else if (starts_inside) {
    state_ = State::kInside;
  }
}

ReasoningPiece ReasoningParser::push(std::string_view text) {
  ReasoningPiece piece;
  held_.append(text);
  drain(piece, false);
  return piece;
}

ReasoningPiece ReasoningParser::finish() {
  ReasoningPiece piece;
  drain(piece, true);
  return piece;
}

void ReasoningParser::drain(ReasoningPiece& piece, bool is_end) {
  if (state_ == State::kBefore) {
    // The opening tag counts only at the start of the text, white space aside: later ones are quoted text.
    size_t start = 0;
    while (start < held_.size() && is_space(held_[start])) ++start;
    const std::string_view rest = std::string_view(held_).substr(start);
    const bool may_become_tag = tags_->open.substr(0, rest.size()) == rest;
    if (rest.starts_with(tags_->open)) {
      held_.erase(0, start + tags_->open.size());
      state_ = State::kInside;
    } else if (is_end || !may_become_tag) {
      is_at_part_start_ = false;
      state_ = State::kAfter;
      piece.answer.append(held_);
      held_.clear();
      return;
    } else {
      return;
    }
  }
  if (state_ == State::kInside) {
    if (is_at_part_start_) {
      const size_t start = std::min(held_.find_first_not_of("\r\n"), held_.size());
      held_.erase(0, start);
      if (held_.empty()) return;
      is_at_part_start_ = false;
    }
    const size_t close = held_.find(tags_->close);
    if (close == std::string::npos) {
      size_t n_sure = held_.size();
      if (!is_end) n_sure -= partial_tag_bytes(held_, tags_->close);
      // Line breaks before the closing tag go with it, so they wait too; also at the end of the text.
      while (n_sure > 0 && (held_[n_sure - 1] == '\n' || held_[n_sure - 1] == '\r')) --n_sure;
      piece.reasoning.append(held_, 0, n_sure);
      held_.erase(0, n_sure);
      if (is_end) held_.clear();
      return;
    }
    size_t n_reasoning = close;
    while (n_reasoning > 0 && (held_[n_reasoning - 1] == '\n' || held_[n_reasoning - 1] == '\r')) --n_reasoning;
    piece.reasoning.append(held_, 0, n_reasoning);
    held_.erase(0, close + tags_->close.size());
    state_ = State::kAfter;
    is_at_part_start_ = true;
  }
  if (is_at_part_start_) {
    const size_t start = std::min(held_.find_first_not_of("\r\n"), held_.size());
    held_.erase(0, start);
    if (held_.empty()) return;
    is_at_part_start_ = false;
  }
  piece.answer.append(held_);
  held_.clear();
}

ReasoningConvention detect_reasoning(std::string_view template_source) {
  for (const ReasoningTags& tags : kConventions) {
    if (tags.open.empty()) continue;
    if (template_source.find(tags.open) != std::string_view::npos ||
        template_source.find(tags.close) != std::string_view::npos) {
      return tags.convention;
    }
  }
  return ReasoningConvention::kNone;
}

bool ends_inside_reasoning(ReasoningConvention convention, std::string_view prompt) {
  const ReasoningTags& tags = reasoning_tags(convention);
  if (tags.open.empty()) return false;
  while (!prompt.empty() && is_space(prompt.back())) prompt.remove_suffix(1);
  return prompt.ends_with(tags.open);
}

}  // namespace mobilellm
