// The order of things after a token: end of sequence, text (box, stop strings), loop, budget, bound of a led answer.
#include "pipeline/session.h"

#include <algorithm>

#include "base/error.h"
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
      boxes_begin_(-static_cast<int64_t>(request.prefill_response.size())),
      stop_strings_(request.stop),
      reasoning_(request.split_reasoning ? prompt_.reasoning : ReasoningConvention::kNone,
                 request.split_reasoning && prompt_.starts_inside_reasoning),
      raw_reasoning_(prompt_.reasoning, prompt_.starts_inside_reasoning),
      use_loop_guard_(wants_loop_guard(request)) {
  boxes_.push(request.prefill_response);
  result_.prompt_tokens = static_cast<int64_t>(prompt_.ids.size());
}

Session::Action Session::start() {
  if (request_.thinking_budget != 0) return {};
  if (has_tags()) {
    // Templates may close the reasoning themselves (Qwen3 with enable_thinking false).
    const std::string_view prompt = prompt_.text;
    const std::string_view close = reasoning_tags(prompt_.reasoning).close;
    const size_t last = prompt.find_last_not_of(" \n\r\t");
    if (last != std::string_view::npos && prompt.substr(0, last + 1).ends_with(close)) return {};
  } else if (boxes_.is_inside_box()) {
    is_led_ = true;
    return {};
  }
  return lead();
}

bool Session::is_eos(int32_t token) const {
  return std::find(eos_ids_.begin(), eos_ids_.end(), token) != eos_ids_.end();
}

Session::Action Session::on_event(const TokenEvent& event) {
  if (is_ended_) return {.is_finished = true, .forced_tokens = {}};
  Action action;
  if (event.token >= 0) {
    ++result_.completion_tokens;
    result_.output_ids.push_back(event.token);
    if (event.is_forced) ++result_.forced_tokens;
    if (request_.n_logprobs) result_.logprobs.push_back({event.token, event.logprob, event.top_logprobs});
    if (is_eos(event.token) && !event.is_forced && !request_.ignore_eos)
      return end(FinishReason::kStop, StopDetail::kEos);
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
  // Text of an ignored end-of-sequence token is never shown, special or not.
  if (!is_eos(token)) {
    last_bytes_ += tokenizer_.token_bytes(token);
    if (last_bytes_.size() > 8) last_bytes_.erase(0, last_bytes_.size() - 8);
    if (accept_text(decoder_.push(token))) {
      return end(FinishReason::kStop, stop_strings_.is_found() ? StopDetail::kStopString : StopDetail::kBoxed);
    }
  }
  if (is_cancelled_) return end(FinishReason::kCancelled, StopDetail::kNone);
  if (was_inside || is_reasoning_open()) ++result_.reasoning_tokens;
  if (is_forced) return {};
  if (!has_tags() || was_inside) ++n_thinking_;
  if (is_led_) ++n_since_led_;
  if (use_loop_guard_ && loop_guard_.push(token)) {
    saw_loop_ = true;
    if (!may_lead()) return end(FinishReason::kLoop, StopDetail::kLoop);
    wants_lead_ = true;
  }
  if (is_budget_used()) wants_lead_ = true;
  if (wants_lead_) return lead_when_possible();
  if (is_led_ && !has_tags() && n_since_led_ >= kMaxLedBoxTokens) {
    return end(FinishReason::kLength, StopDetail::kAnswerBound);
  }
  return {};
}

// Whether leading to the answer makes sense when the output repeats itself.
bool Session::may_lead() const {
  if (has_tags()) return is_reasoning_open();
  return !is_led_ && wants_box() && !has_box_;
}

bool Session::is_budget_used() const {
  if (request_.thinking_budget < 0 || n_thinking_ < request_.thinking_budget) return false;
  return has_tags() ? is_reasoning_open() : !is_led_;
}

Session::Action Session::lead_when_possible() {
  // The forced text must not land inside a character; bytes that never become one do not hold it up for long.
  constexpr int kLongestRest = 3;
  if (incomplete_utf8_tail(last_bytes_) > 0 && n_waited_++ < kLongestRest) return {};
  wants_lead_ = false;
  n_waited_ = 0;
  if (has_tags()) return is_reasoning_open() ? lead() : Action{};
  if (has_box_) return end(FinishReason::kStop, StopDetail::kThinkingBudget);
  if (boxes_.is_inside_box()) {  // It is on its way already.
    is_led_ = true;
    return {};
  }
  return lead();
}

Session::Action Session::lead() {
  is_led_ = true;
  n_since_led_ = 0;
  loop_guard_.reset();
  Action action;
  const bool has_text = !raw_text_.empty() || (!has_tags() && !request_.prefill_response.empty());
  const std::string text = lead_to_answer(prompt_.reasoning, is_reasoning_open(), has_text);
  action.forced_tokens = tokenizer_.encode(text, {.add_special = false, .parse_special = true});
  return action;
}

bool Session::wants_box() const {
  return request_.stop_at_boxed || request_.final_only || request_.thinking_budget >= 0;
}

std::optional<size_t> Session::find_box_end(size_t piece_begin, bool was_reasoning_open) {
  // A box inside the reasoning is part of the thinking.
  if (is_reasoning_open()) return std::nullopt;
  size_t begin = piece_begin;
  if (was_reasoning_open) {
    const std::string_view close = reasoning_tags(prompt_.reasoning).close;
    const size_t at = raw_text_.rfind(close);
    MOBILELLM_CHECK(at != std::string::npos);
    begin = at + close.size();
    boxes_ = {};
    boxes_begin_ = static_cast<int64_t>(begin);
  }
  const auto box_end = boxes_.push(std::string_view(raw_text_).substr(begin));
  if (!box_end) return std::nullopt;
  return static_cast<size_t>(boxes_begin_ + static_cast<int64_t>(*box_end));
}

bool Session::accept_text(std::string_view text) {
  if (text.empty()) return false;
  const bool was_reasoning_open = is_reasoning_open();
  const size_t piece_begin = raw_text_.size();
  raw_text_ += text;
  raw_reasoning_.push(text);
  bool is_box_end = false;
  if (const auto box_end = find_box_end(piece_begin, was_reasoning_open)) {
    has_box_ = true;
    if (request_.stop_at_boxed || (is_led_ && !has_tags())) {
      text = text.substr(0, *box_end - piece_begin);
      is_box_end = true;
    }
  }
  // A stop string that is complete before the box ends, or with it, wins.
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
  const bool is_own_end = reason == FinishReason::kStop || detail == StopDetail::kAnswerBound;
  if (saw_loop_ && is_own_end) reason = FinishReason::kLoop;
  result_.finish_reason = reason;
  result_.stop_detail = detail;
  result_.stop_string = stop_strings_.found();
  const std::string whole = request_.prefill_response + result_.text;
  const auto boxed = find_last_boxed(whole);
  if (boxed && boxed->end > request_.prefill_response.size()) result_.boxed = boxed->content;
  return {.is_finished = true, .forced_tokens = {}};
}

}  // namespace mobilellm
