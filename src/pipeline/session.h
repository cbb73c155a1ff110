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
  std::optional<Action> check_loop(int32_t token);
  std::optional<Action> check_budget();
  Action lead();
  Action end(FinishReason reason, StopDetail detail);
  /// Sends decoded text on its way. True when it ended the generation (box or stop string).
  bool accept_text(std::string_view text);
  void emit(std::string_view text);
  void give(TextChannel channel, const std::string& text);
  bool wants_box() const;
  bool is_reasoning_open() const { return raw_reasoning_.is_inside(); }

  const GenerateRequest& request_;
  Prompt prompt_;
  const Tokenizer& tokenizer_;
  std::vector<int32_t> eos_ids_;
  size_t index_;
  const TextCallback& on_text_;

  StreamDecoder decoder_;
  BoxedScanner boxes_;
  size_t prefill_bytes_;    // of the box scanner's text that lie before the output
  size_t n_raw_bytes_ = 0;  // decoded output bytes
  bool has_box_ = false;    // a complete box was seen where answers count
  StopStrings stop_strings_;
  ReasoningParser reasoning_;      // over the emitted text: channels
  ReasoningParser raw_reasoning_;  // over the decoded text: where the model is now
  LoopGuard loop_guard_;
  bool use_loop_guard_;
  bool is_led_ = false;
  bool saw_loop_ = false;
  bool is_cancelled_ = false;
  bool is_ended_ = false;
  int64_t n_since_led_ = 0;
  int64_t n_thinking_ = 0;
  std::string last_bytes_;  // enough of the output's bytes to see an unfinished character
  GenerateResult result_;
};

}  // namespace mobilellm
