/// One running generation: tokens become text, and text decides when to lead, cut or end.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "chat/parsers/boxed.h"
#include "pipeline/loop_guard.h"
#include "pipeline/pipeline.h"
#include "pipeline/stop_strings.h"
#include "tokenizer/stream_decoder.h"

namespace mobilellm {

/// Fed with the engine's events in order. Not thread-safe.
class Session {
 public:
  /// What the caller must do after an event.
  struct Action {
    bool is_finished = false;            ///< The session needs no more tokens: result() may be taken.
    std::vector<int32_t> forced_tokens;  ///< To be forced next, when not empty.
  };

  Session(const GenerateRequest& request, Prompt prompt, const Tokenizer& tokenizer, std::vector<int32_t> eos_ids,
          size_t index, const TextCallback& on_text);

  const Prompt& prompt() const { return prompt_; }
  /// Before the first token: a budget of 0 leads at once.
  Action start();
  Action on_event(const TokenEvent& event);
  /// Ends the text where it is (the engine was told to stop, or the caller cancelled).
  void finish(FinishReason reason, StopDetail detail);
  /// After the end.
  GenerateResult take_result() { return std::move(result_); }

 private:
  Action after_token(int32_t token, bool is_forced);
  bool may_lead() const;
  bool is_budget_used() const;
  Action lead_when_possible();
  Action lead();
  Action end(FinishReason reason, StopDetail detail);
  /// Sends decoded text on its way. True when it ended the generation (box or stop string).
  bool accept_text(std::string_view text);
  /// Offset in raw_text_ behind the first box of the answer that this piece completes.
  std::optional<size_t> find_box_end(size_t piece_begin, bool was_reasoning_open);
  void emit(std::string_view text);
  void give(TextChannel channel, const std::string& text);
  bool wants_box() const;
  bool has_tags() const { return prompt_.reasoning != ReasoningConvention::kNone; }
  bool is_reasoning_open() const { return raw_reasoning_.is_inside(); }
  bool is_eos(int32_t token) const;

  const GenerateRequest& request_;
  Prompt prompt_;
  const Tokenizer& tokenizer_;
  std::vector<int32_t> eos_ids_;
  size_t index_;
  const TextCallback& on_text_;

  StreamDecoder decoder_;
  std::string raw_text_;  // All decoded output; what is shown may still be held back.
  BoxedScanner boxes_;    // Over the prefill and the answer part of raw_text_.
  int64_t boxes_begin_;   // Where the scanner's text begins in raw_text_; negative for a prefill.
  bool has_box_ = false;  // A complete box was seen in the answer.
  StopStrings stop_strings_;
  ReasoningParser reasoning_;      // Over the shown text: channels.
  ReasoningParser raw_reasoning_;  // Over raw_text_: where the model is now.
  LoopGuard loop_guard_;
  bool use_loop_guard_;
  bool saw_loop_ = false;
  bool wants_lead_ = false;  // As soon as the current character is complete.
  bool is_led_ = false;
  bool is_cancelled_ = false;
  bool is_ended_ = false;
  int n_waited_ = 0;  // Tokens since wants_lead_.
  int64_t n_since_led_ = 0;
  int64_t n_thinking_ = 0;
  std::string last_bytes_;  // Enough of the output's bytes to see an unfinished character.
  GenerateResult result_;
};

}  // namespace mobilellm
