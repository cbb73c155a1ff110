/// Splits a model's streamed text into its reasoning and its answer, by the convention of its family.
#pragma once

#include <string>
#include <string_view>

namespace mobilellm {

/// How a family marks its reasoning.
enum class ReasoningConvention {
  kNone,       ///< No mark: all text is answer.
  kThinkTags,  ///< <think> ... </think>; the opening tag may stand in the prompt.
};

/// The tags of a convention; empty for kNone.
struct ReasoningTags {
  ReasoningConvention convention;
  const char* name;  ///< For options and JSON: "none", "think".
  std::string_view open;
  std::string_view close;
};
const ReasoningTags& reasoning_tags(ReasoningConvention convention);

/// Text that has become certain; either part may be empty.
struct ReasoningPiece {
  std::string reasoning;
  std::string answer;
};

/// Incremental splitter. Never gives out part of a tag; the concatenation of all pieces does not depend on how the
/// text was split. Tags themselves are dropped, and the line breaks that touch them.
class ReasoningParser {
 public:
  /// `starts_inside`: the prompt ended inside an open reasoning block (see ends_inside_reasoning).
  explicit ReasoningParser(ReasoningConvention convention, bool starts_inside = false);

  ReasoningPiece push(std::string_view text);
  /// What was held back, at the end of the text. An unclosed block stays reasoning.
  ReasoningPiece finish();

  /// Whether the text so far ends inside the reasoning.
  bool is_inside() const { return state_ == State::kInside; }
  /// Whether a reasoning block was closed.
  bool is_closed() const { return state_ == State::kAfter; }

 private:
  enum class State { kBefore, kInside, kAfter };
  void drain(ReasoningPiece& piece, bool is_end);

  const ReasoningTags* tags_;
  State state_;
  std::string held_;              // Text that may be part of a tag or a line break that touches one.
  bool is_at_part_start_ = true;  // Nothing of the present part was given out yet.
};

/// The convention that a chat template's text shows: think tags when it contains "<think>" or "</think>".
ReasoningConvention detect_reasoning(std::string_view template_source);

/// Whether a rendered prompt ends with an opening tag (white space aside), so that the output begins inside reasoning.
bool ends_inside_reasoning(ReasoningConvention convention, std::string_view prompt);

}  // namespace mobilellm
