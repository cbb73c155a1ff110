// The order of things after a token: end of sequence, text (box, stop strings), loop, budget, bound of a led answer.
#include "pipeline/session.h"

#include <algorithm>

#include "base/utf8.h"
#include "pipeline/thinking_budget.h"

namespace mobilellm {
namespace {

bool wants_loop_guard(const GenerateRequest& request) {
  constexpr int64_t kLongOutput = 256;
  if (request.loop_guard != LoopGuardMode::kAuto) return request.loop_guard == LoopGuardMode::kOn;
  return request.sampling.is_greedy() && (!request.max_tokens || *request.max_tokens > kLongOutput);
}

}  // namespace

Session::Session(const GenerateRequest& request, Prompt prompt, const Tokenizer& tokenizer,
                 std::vector<int32_t> eos_ids, size_t index, const TextCallback& on_text)
    : request_(request),
      prompt_(std::move(prompt)),
      tokenizer_(tokenizer),
      eos_ids_(std::move(eos_ids)),
      index_(index),
      on_text_(on_text),
      decoder_(tokenizer),
      prefill_bytes_(request.prefill_response.size()),
      stop_strings_(request.stop),
      reasoning_(prompt_.reasoning, prompt_.starts_inside_reasoning),
      raw_reasoning_(prompt_.reasoning, prompt_.starts_inside_reasoning),
      use_loop_guard_(wants_loop_guard(request)) {
  boxes_.push(request.prefill_response);
  result_.prompt_tokens = static_cast<int64_t>(prompt_.ids.size());
}

Session::Action Session::start() {
  if (request_.thinking_budget == 0) return lead();
  return {};
}

Session::Action Session::on_event(const TokenEvent& event) {
  if (is_ended_) return {.is_finished = true, .forced_tokens = {}};
  Action action;
  if (event.token >= 0) {
    ++result_.completion_tokens;
    result_.output_ids.push_back(event.token);
    if (event.is_forced) ++result_.forced_tokens;
    if (request_.n_logprobs) result_.logprobs.push_back({event.token, event.logprob, event.top_logprobs});
    const bool is_eos = !event.is_forced && std::find(eos_ids_.begin(), eos_ids_.end(), event.token) != eos_ids_.end();
    if (is_eos && !request_.ignore_eos) return end(FinishReason::kStop, StopDetail::kEos);
    action = after_token(event.token, event.is_forced);
    if (action.is_finished) return action;
  }
  if (event.finish == FinishReason::kNone) return action;
  if (event.finish == FinishReason::kLength) {
    const bool is_max = request_.max_tokens && result_.completion_tokens >= *request_.max_tokens;
    return end(FinishReason::kLength, is_max ? StopDetail::kMaxTokens : StopDetail::kContextEnd);
  }
  return end(event.finish, event.finish == FinishReason::kStop ? StopDetail::kEos : StopDetail::kNone);
}

Session::Action Session::after_token(int32_t token, bool is_forced) {
  const bool was_inside = is_reasoning_open();
  last_bytes_ += tokenizer_.token_bytes(token);
  if (last_bytes_.size() > 8) last_bytes_.erase(0, last_bytes_.size() - 8);
  if (accept_text(decoder_.push(token))) {
    return stop_strings_.is_found() ? end(FinishReason::kStop, StopDetail::kStopString)
                                    : end(FinishReason::kStop, StopDetail::kBoxed);
  }
  if (is_cancelled_) return end(FinishReason::kCancelled, StopDetail::kNone);
  if (was_inside || is_reasoning_open()) ++result_.reasoning_tokens;
  if (is_forced) return {};
  if (prompt_.reasoning == ReasoningConvention::kNone || was_inside || is_reasoning_open()) ++n_thinking_;
  if (is_led_) ++n_since_led_;
  if (const auto action = check_loop(token)) return *action;
  if (const auto action = check_budget()) return *action;
  if (is_led_ && prompt_.reasoning == ReasoningConvention::kNone && n_since_led_ >= kMaxLedBoxTokens) {
    return end(FinishReason::kLength, StopDetail::kAnswerBound);
  }
  return {};
}

std::optional<Session::Action> Session::check_loop(int32_t token) {
  if (!use_loop_guard_ || !loop_guard_.push(token)) return std::nullopt;
  saw_loop_ = true;
  const bool can_lead = !is_led_ && (is_reasoning_open() || (wants_box() && !has_box_));
  if (!can_lead) return end(FinishReason::kLoop, StopDetail::kLoop);
  loop_guard_.reset();
  return lead();
}

std::optional<Session::Action> Session::check_budget() {
  if (is_led_ || request_.thinking_budget < 0 || n_thinking_ < request_.thinking_budget) return std::nullopt;
  if (prompt_.reasoning != ReasoningConvention::kNone && !is_reasoning_open()) return std::nullopt;
  // The forced text must not land inside a character, nor inside a box that is being written.
  if (incomplete_utf8_tail(last_bytes_) > 0) return std::nullopt;
  if (prompt_.reasoning == ReasoningConvention::kNone) {
    if (has_box_) return end(FinishReason::kStop, StopDetail::kThinkingBudget);
    if (boxes_.is_inside_box()) {
      is_led_ = true;
      return Action{};
    }
  }
  return lead();
}

Session::Action Session::lead() {
  is_led_ = true;
  Action action;
  const std::string text = lead_to_answer(prompt_.reasoning, is_reasoning_open(), n_raw_bytes_ > 0);
  action.forced_tokens = tokenizer_.encode(text, {.add_special = false, .parse_special = true});
  return action;
}

bool Session::wants_box() const {
  return request_.stop_at_boxed || request_.final_only || request_.thinking_budget >= 0;
}

bool Session::accept_text(std::string_view text) {
  if (text.empty()) return false;
  const std::optional<size_t> box_end = boxes_.push(text);
  const size_t piece_begin = n_raw_bytes_;
  n_raw_bytes_ += text.size();
  raw_reasoning_.push(text);
  bool is_box_end = false;
  // Inside an open think block a box is part of the thinking.
  if (box_end && !is_reasoning_open()) {
    has_box_ = true;
    if (request_.stop_at_boxed || (is_led_ && prompt_.reasoning == ReasoningConvention::kNone)) {
      text = text.substr(0, *box_end - prefill_bytes_ - piece_begin);
      is_box_end = true;
    }
  }
  emit(stop_strings_.push(text));
  return stop_strings_.is_found() || is_box_end;
}

void Session::emit(std::string_view text) {
  if (text.empty()) return;
  result_.text += text;
  const ReasoningPiece piece = reasoning_.push(text);
  give(TextChannel::kReasoning, piece.reasoning);
  give(TextChannel::kAnswer, piece.answer);
}

void Session::give(TextChannel channel, const std::string& text) {
  if (text.empty()) return;
  (channel == TextChannel::kReasoning ? result_.reasoning : result_.answer) += text;
  if (on_text_ && !is_cancelled_ && !on_text_({index_, channel, text})) is_cancelled_ = true;
}

void Session::finish(FinishReason reason, StopDetail detail) {
  if (!is_ended_) end(reason, detail);
}

Session::Action Session::end(FinishReason reason, StopDetail detail) {
  is_ended_ = true;
  const bool was_cut = detail == StopDetail::kBoxed || detail == StopDetail::kStopString;
  // A box or stop string may still complete in the last bytes.
  if (!was_cut && accept_text(decoder_.flush()) && reason != FinishReason::kCancelled) {
    reason = FinishReason::kStop;
    detail = stop_strings_.is_found() ? StopDetail::kStopString : StopDetail::kBoxed;
  }
  emit(stop_strings_.finish());
  const ReasoningPiece piece = reasoning_.finish();
  give(TextChannel::kReasoning, piece.reasoning);
  give(TextChannel::kAnswer, piece.answer);
  if (saw_loop_ && reason == FinishReason::kStop) reason = FinishReason::kLoop;
  result_.finish_reason = reason;
  result_.stop_detail = detail;
  result_.stop_string = stop_strings_.found();
  const std::string whole = request_.prefill_response + result_.text;
  const auto boxed = find_last_boxed(whole);
  if (boxed && boxed->end > prefill_bytes_) result_.boxed = boxed->content;
  return {.is_finished = true, .forced_tokens = {}};
}

}  // namespace mobilellm
