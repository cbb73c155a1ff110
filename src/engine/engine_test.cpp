// Scenarios on the fake backend: sharing, cancellation, batching, limits, forced tokens, memory running out.
#include "engine/engine.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "backend/fake/fake_runner.h"
#include "base/random.h"

namespace mobilellm {
namespace {

struct Outcome {
  std::vector<int32_t> tokens;
  std::vector<TokenEvent> events;
  FinishReason finish = FinishReason::kNone;
};
using Outcomes = std::map<RequestId, Outcome>;

void collect(const std::vector<TokenEvent>& events, Outcomes& outcomes) {
  for (const TokenEvent& event : events) {
    Outcome& outcome = outcomes[event.id];
    EXPECT_EQ(outcome.finish, FinishReason::kNone) << "an event after the end";
    if (event.token >= 0) outcome.tokens.push_back(event.token);
    outcome.finish = event.finish;
    outcome.events.push_back(event);
  }
}

Outcomes run_all(Engine& engine) {
  Outcomes outcomes;
  for (int i = 0; engine.has_work(); ++i) {
    EXPECT_LT(i, 100000) << "the engine makes no progress";
    if (i >= 100000) break;
    collect(engine.step(), outcomes);
  }
  return outcomes;
}

std::vector<int32_t> make_prompt(size_t n, uint64_t seed = 0) {
  std::vector<int32_t> prompt(n);
  for (size_t i = 0; i < n; ++i) prompt[i] = static_cast<int32_t>(random_bits(seed, 9, i) % 64);
  return prompt;
}

Request make_request(std::vector<int32_t> prompt, int64_t max_tokens = 20) {
  Request request;
  request.prompt = std::move(prompt);
  request.max_tokens = max_tokens;
  return request;
}

// What a correct engine says greedily.
std::vector<int32_t> greedy_reply(const FakeRunner& runner, std::vector<int32_t> history, size_t n) {
  std::vector<int32_t> reply;
  for (size_t i = 0; i < n; ++i) {
    reply.push_back(runner.expected_token(history));
    history.push_back(reply.back());
  }
  return reply;
}

// Alone, in one chunk.
std::vector<int32_t> run_alone(const Request& request) {
  FakeRunner runner({});
  Engine engine(runner, {});
  const RequestId id = engine.add(request);
  return run_all(engine)[id].tokens;
}

TEST(Engine, GreedyTokensFollowTheWholeHistory) {
  FakeRunner runner({});
  Engine engine(runner, {});
  const auto prompt = make_prompt(13);
  const RequestId id = engine.add(make_request(prompt));
  const auto outcome = run_all(engine)[id];
  EXPECT_EQ(outcome.tokens, greedy_reply(runner, prompt, 20));
  EXPECT_EQ(outcome.finish, FinishReason::kLength);
  EXPECT_EQ(runner.n_tokens_computed(), 13 + 19) << "every position is computed once";
  EXPECT_EQ(engine.stats().n_pages_used, 0);
}

TEST(Engine, ChunkSizeDoesNotChangeTokens) {
  Request request = make_request(make_prompt(50));
  request.sampling.temperature = 1;
  request.sampling.seed = 5;
  const auto expected = run_alone(request);
  for (const int chunk : {1, 2, 3, 5, 7, 64}) {
    FakeRunner runner({});
    Engine engine(runner, {.prefill_chunk = chunk});
    const RequestId id = engine.add(request);
    EXPECT_EQ(run_all(engine)[id].tokens, expected) << chunk;
  }
}

TEST(Engine, ManySequencesEachEqualAlone) {
  for (const int max_running : {1, 3, 64}) {
    FakeRunner runner({});
    Engine engine(runner, {.max_running = max_running, .prefill_chunk = 16});
    std::map<RequestId, std::vector<int32_t>> expected;
    Outcomes outcomes;
    for (size_t i = 0; i < 24; ++i) {
      Request request = make_request(make_prompt(1 + i * 5 % 37, i), static_cast<int64_t>(1 + i * 7 % 30));
      request.sampling.temperature = i % 3 == 0 ? 0 : 0.9;
      request.sampling.top_k = i % 2 == 0 ? 0 : 8;
      request.sampling.repetition_penalty = i % 5 == 0 ? 1.3 : 1;
      request.sampling.seed = i;
      const auto alone = run_alone(request);
      expected[engine.add(std::move(request))] = alone;
      if (i % 4 == 3) collect(engine.step(), outcomes);  // Others arrive while some run.
    }
    for (const auto& [id, outcome] : run_all(engine)) {
      for (const auto& event : outcome.events) collect({event}, outcomes);
    }
    for (const auto& [id, tokens] : expected) EXPECT_EQ(outcomes[id].tokens, tokens) << id << " of " << max_running;
    EXPECT_EQ(engine.stats().n_pages_used, 0);
    EXPECT_LE(runner.largest_batch(), static_cast<size_t>(max_running));
  }
}

TEST(Engine, ForksShareOnePrefillAndEqualAlone) {
  FakeRunner runner({});
  Engine engine(runner, {.prefill_chunk = 8});
  Request request = make_request(make_prompt(30), 12);
  request.sampling.temperature = 1;
  const RequestId first = engine.add(request);
  std::vector<RequestId> ids = {first};
  for (uint64_t stream = 1; stream < 5; ++stream) ids.push_back(engine.fork(first, stream));
  auto outcomes = run_all(engine);
  EXPECT_EQ(runner.n_tokens_computed(), 30 + 5 * 11);
  std::map<std::vector<int32_t>, int> distinct;
  for (uint64_t stream = 0; stream < 5; ++stream) {
    request.stream = stream;
    EXPECT_EQ(outcomes[ids[stream]].tokens, run_alone(request)) << stream;
    ++distinct[outcomes[ids[stream]].tokens];
  }
  EXPECT_EQ(distinct.size(), 5U);
  EXPECT_EQ(engine.stats().n_pages_used, 0);
}

TEST(Engine, ForkSharesFullPagesAndCopiesTheOpenOne) {
  FakeRunner runner({});  // 4 tokens a page.
  Engine engine(runner, {});
  Request request = make_request(make_prompt(10));
  request.sampling.temperature = 1;
  const RequestId first = engine.add(request);
  const RequestId second = engine.fork(first, 1);
  (void)second;
  (void)engine.step();
  EXPECT_EQ(engine.stats().n_pages_used, 3);
  (void)engine.step();
  EXPECT_EQ(engine.stats().n_pages_used, 4) << "two full pages are shared, the third is copied";
}

TEST(Engine, ForkInTheMiddleGoesOnWithTheSameTokens) {
  FakeRunner runner({});
  Engine engine(runner, {});
  Request request = make_request(make_prompt(6), 30);
  request.sampling.temperature = 1;
  const RequestId first = engine.add(request);
  Outcomes outcomes;
  for (int i = 0; i < 7; ++i) collect(engine.step(), outcomes);
  const RequestId second = engine.fork(first, 1);
  const size_t n_before = outcomes[first].tokens.size();
  for (const auto& [id, outcome] : run_all(engine)) {
    for (const auto& event : outcome.events) collect({event}, outcomes);
  }
  EXPECT_EQ(outcomes[first].tokens, run_alone(request)) << "a fork must not disturb its parent";
  EXPECT_EQ(outcomes[first].tokens.size() - n_before, outcomes[second].tokens.size());
  EXPECT_FALSE(std::equal(outcomes[second].tokens.begin(), outcomes[second].tokens.end(),
                          outcomes[first].tokens.begin() + static_cast<std::ptrdiff_t>(n_before)));
}

TEST(Engine, ForksOutliveTheirParent) {
  for (const int n_steps : {0, 1, 3, 6}) {  // Before, during and after the prefill of 4 chunks.
    FakeRunner runner({});
    Engine engine(runner, {.prefill_chunk = 8});
    Request request = make_request(make_prompt(30), 12);
    request.sampling.temperature = 1;
    const RequestId first = engine.add(request);
    const RequestId second = engine.fork(first, 1);
    const RequestId third = engine.fork(first, 2);
    Outcomes outcomes;
    for (int i = 0; i < n_steps; ++i) collect(engine.step(), outcomes);
    engine.cancel(first);
    for (const auto& [id, outcome] : run_all(engine)) {
      for (const auto& event : outcome.events) collect({event}, outcomes);
    }
    EXPECT_EQ(outcomes[first].finish, FinishReason::kCancelled);
    request.stream = 1;
    EXPECT_EQ(outcomes[second].tokens, run_alone(request)) << n_steps;
    request.stream = 2;
    EXPECT_EQ(outcomes[third].tokens, run_alone(request)) << n_steps;
    EXPECT_EQ(engine.stats().n_pages_used, 0);
  }
}

TEST(Engine, CancelFreesPagesAtOnce) {
  FakeRunner runner({});
  Engine engine(runner, {});
  const RequestId a = engine.add(make_request(make_prompt(20)));
  const RequestId b = engine.add(make_request(make_prompt(9), 5));
  (void)engine.step();
  EXPECT_EQ(engine.stats().n_pages_used, 5 + 3);
  engine.cancel(a);
  EXPECT_EQ(engine.stats().n_pages_used, 3);
  engine.cancel(a);    // Again: nothing.
  engine.cancel(999);  // Unknown: nothing.
  auto outcomes = run_all(engine);
  EXPECT_EQ(outcomes[a].finish, FinishReason::kCancelled);
  EXPECT_TRUE(outcomes[a].tokens.empty());
  EXPECT_EQ(outcomes[b].tokens.size(), 4U);
}

TEST(Engine, FinishReportsTheGivenReason) {
  FakeRunner runner({});
  Engine engine(runner, {});
  const RequestId id = engine.add(make_request(make_prompt(5)));
  (void)engine.step();
  engine.finish(id, FinishReason::kLoop);
  const auto events = engine.step();
  ASSERT_EQ(events.size(), 1U);
  EXPECT_EQ(events[0].finish, FinishReason::kLoop);
  EXPECT_EQ(events[0].token, -1);
  EXPECT_FALSE(engine.has_work());
}

TEST(Engine, AnyEosIdStops) {
  const std::vector<int32_t> prompt = {1, 2, 3};
  for (const int32_t eos : {40, 41, 42}) {
    FakeRunner runner({});
    runner.script_reply(prompt, {7, 8, eos, 9});
    Engine engine(runner, {});
    Request request = make_request(prompt);
    request.eos_ids = {40, 41, 42};
    const RequestId id = engine.add(request);
    const auto outcome = run_all(engine)[id];
    EXPECT_EQ(outcome.tokens, (std::vector<int32_t>{7, 8, eos}));
    EXPECT_EQ(outcome.finish, FinishReason::kStop);
  }
}

TEST(Engine, IgnoreEosGoesOn) {
  const std::vector<int32_t> prompt = {1, 2, 3};
  FakeRunner runner({});
  runner.script_reply(prompt, {7, 40, 8, 9});
  Engine engine(runner, {});
  Request request = make_request(prompt, 4);
  request.eos_ids = {40};
  request.ignore_eos = true;
  const RequestId id = engine.add(request);
  const auto outcome = run_all(engine)[id];
  EXPECT_EQ(outcome.tokens, (std::vector<int32_t>{7, 40, 8, 9}));
  EXPECT_EQ(outcome.finish, FinishReason::kLength);
}

TEST(Engine, ContextEndIsLength) {
  FakeRunner runner({});
  Engine engine(runner, {.context = 32});
  EXPECT_EQ(engine.context_limit(), 32);
  const RequestId id = engine.add(make_request(make_prompt(25), -1));
  const RequestId full = engine.add(make_request(make_prompt(32), -1));
  auto outcomes = run_all(engine);
  EXPECT_EQ(outcomes[id].tokens.size(), 7U);
  EXPECT_EQ(outcomes[id].finish, FinishReason::kLength);
  EXPECT_TRUE(outcomes[full].tokens.empty());
  EXPECT_EQ(outcomes[full].finish, FinishReason::kLength);
}

TEST(Engine, TooLongPromptIsRefusedBeforeWork) {
  FakeRunner runner({.max_context = 40});
  Engine engine(runner, {.context = 1000});
  EXPECT_EQ(engine.context_limit(), 40) << "the model's maximum bounds the option";
  try {
    engine.add(make_request(make_prompt(41)));
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kContextExceeded);
    const std::string message = error.what();
    for (const char* part : {"context_length_exceeded", "exceeds the available context size", "41", "40"}) {
      EXPECT_NE(message.find(part), std::string::npos) << message;
    }
  }
  EXPECT_FALSE(engine.has_work());
  EXPECT_EQ(runner.n_forwards(), 0);
}

TEST(Engine, BadRequestsAreRefused) {
  FakeRunner runner({});
  Engine engine(runner, {});
  const auto code = [&](Request request) {
    try {
      engine.add(std::move(request));
    } catch (const Error& error) {
      return error.code();
    }
    return ErrorCode::kInternal;
  };
  EXPECT_EQ(code(make_request({})), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code(make_request({64})), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code(make_request({-1})), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code(make_request({1}, -2)), ErrorCode::kInvalidArgument);
  Request request = make_request({1});
  request.n_logprobs = 21;
  EXPECT_EQ(code(request), ErrorCode::kInvalidArgument);
  request = make_request({1});
  request.sampling.top_p = 2;
  EXPECT_EQ(code(request), ErrorCode::kInvalidArgument);
  EXPECT_FALSE(engine.has_work());
}

TEST(Engine, MaxTokensZeroEndsWithLength) {
  FakeRunner runner({});
  Engine engine(runner, {});
  const RequestId id = engine.add(make_request({1}, 0));
  EXPECT_TRUE(engine.has_work());
  const RequestId copy = engine.fork(id, 1);
  auto outcomes = run_all(engine);
  EXPECT_EQ(outcomes[id].finish, FinishReason::kLength);
  EXPECT_EQ(outcomes[copy].finish, FinishReason::kLength);
  EXPECT_EQ(runner.n_forwards(), 0);
  EXPECT_THROW(engine.fork(id, 2), Error) << "its end was reported";
}

TEST(Engine, ForcedTokensTakeThePlaceOfSampledOnes) {
  FakeRunner runner({});
  Engine engine(runner, {});
  const auto prompt = make_prompt(9);
  Request request = make_request(prompt, 12);
  request.eos_ids = {50};
  const RequestId id = engine.add(request);
  Outcomes outcomes;
  for (int i = 0; i < 3; ++i) collect(engine.step(), outcomes);
  const std::vector<int32_t> forced = {5, 50, 6};  // An eos id among them does not end the sequence.
  engine.force_tokens(id, forced);
  const int forwards_before = runner.n_forwards();
  collect(engine.step(), outcomes);
  EXPECT_EQ(runner.n_forwards(), forwards_before + 1) << "forced tokens go through the model at once";
  for (const auto& [other, outcome] : run_all(engine)) {
    for (const auto& event : outcome.events) collect({event}, outcomes);
  }
  auto history = prompt;
  std::vector<int32_t> expected = greedy_reply(runner, history, 3);
  expected.insert(expected.end(), forced.begin(), forced.end());
  history.insert(history.end(), expected.begin(), expected.end());
  const auto rest = greedy_reply(runner, history, 6);
  expected.insert(expected.end(), rest.begin(), rest.end());
  EXPECT_EQ(outcomes[id].tokens, expected);
  EXPECT_EQ(outcomes[id].finish, FinishReason::kLength);
  for (size_t i = 0; i < expected.size(); ++i) EXPECT_EQ(outcomes[id].events[i].is_forced, i >= 3 && i < 6);
}

TEST(Engine, ForcedTokensRespectMaxTokens) {
  FakeRunner runner({});
  Engine engine(runner, {});
  const RequestId id = engine.add(make_request(make_prompt(4), 3));
  engine.force_tokens(id, std::vector<int32_t>{1, 2, 3, 4, 5});
  const auto outcome = run_all(engine)[id];
  EXPECT_EQ(outcome.tokens, (std::vector<int32_t>{1, 2, 3}));
  EXPECT_EQ(outcome.finish, FinishReason::kLength);
}

TEST(Engine, ForcedTokensSeparateAFork) {
  for (const bool force_parent : {false, true}) {
    for (const int n_steps : {0, 2}) {
      FakeRunner runner({});
      Engine engine(runner, {.prefill_chunk = 4});
      const auto prompt = make_prompt(14);
      const RequestId parent = engine.add(make_request(prompt, 8));
      const RequestId child = engine.fork(parent, 1);
      const RequestId second = engine.fork(parent, 2);
      Outcomes outcomes;
      for (int i = 0; i < n_steps; ++i) collect(engine.step(), outcomes);
      engine.force_tokens(force_parent ? parent : child, std::vector<int32_t>{3, 4});
      for (const auto& [id, outcome] : run_all(engine)) {
        for (const auto& event : outcome.events) collect({event}, outcomes);
      }
      auto forced_history = prompt;
      forced_history.insert(forced_history.end(), {3, 4});
      auto forced_reply = greedy_reply(runner, forced_history, 6);
      forced_reply.insert(forced_reply.begin(), {3, 4});
      const auto plain_reply = greedy_reply(runner, prompt, 8);
      EXPECT_EQ(outcomes[parent].tokens, force_parent ? forced_reply : plain_reply);
      EXPECT_EQ(outcomes[child].tokens, force_parent ? plain_reply : forced_reply);
      EXPECT_EQ(outcomes[second].tokens, plain_reply);
    }
  }
}

TEST(Engine, FullCachePreemptsLaterSequencesWithoutChangingThem) {
  FakeRunner runner({});
  Engine engine(runner, {.max_kv_tokens = 64});  // 16 pages for 6 sequences of up to 40 tokens.
  std::map<RequestId, std::vector<int32_t>> expected;
  for (size_t i = 0; i < 6; ++i) {
    Request request = make_request(make_prompt(10 + i, i), 25);
    request.sampling.temperature = 0.8;
    request.sampling.seed = i;
    const auto alone = run_alone(request);
    expected[engine.add(std::move(request))] = alone;
  }
  auto outcomes = run_all(engine);
  for (const auto& [id, tokens] : expected) EXPECT_EQ(outcomes[id].tokens, tokens) << id;
  EXPECT_GT(engine.stats().n_preemptions, 0U);
  EXPECT_EQ(engine.stats().n_pages_used, 0);
}

TEST(Engine, RefusedMemoryEndsOnlyTheRequestThatCannotGoOn) {
  FakeRunner runner({.max_pages = 8});
  Engine engine(runner, {});
  const RequestId small = engine.add(make_request(make_prompt(6), 4));
  const RequestId large = engine.add(make_request(make_prompt(30), 40));  // Needs more than 8 pages of 4.
  const RequestId last = engine.add(make_request(make_prompt(6), 4));
  auto outcomes = run_all(engine);
  EXPECT_EQ(outcomes[small].tokens.size(), 4U);
  EXPECT_EQ(outcomes[last].tokens.size(), 4U);
  EXPECT_EQ(outcomes[large].finish, FinishReason::kError);
  EXPECT_EQ(outcomes[large].events.back().error->code(), ErrorCode::kResourceLimit);
  EXPECT_EQ(engine.stats().n_pages_used, 0);
}

TEST(Engine, BrokenLogitsEndTheRequestWithAClearError) {
  FakeRunner runner({});
  runner.break_after(3);
  Engine engine(runner, {});
  const RequestId id = engine.add(make_request(make_prompt(5)));
  const auto outcome = run_all(engine)[id];
  EXPECT_EQ(outcome.tokens.size(), 3U);
  ASSERT_EQ(outcome.finish, FinishReason::kError);
  EXPECT_NE(std::string(outcome.events.back().error->what()).find("NaN"), std::string::npos);
}

TEST(Engine, LogprobsAreThoseOfTheModel) {
  FakeRunner runner({});
  Engine engine(runner, {});
  Request request = make_request(make_prompt(5), 3);
  request.n_logprobs = 4;
  request.sampling.temperature = 0.3;
  request.sampling.top_k = 1;
  const RequestId id = engine.add(request);
  const auto outcome = run_all(engine)[id];
  for (const TokenEvent& event : outcome.events) {
    ASSERT_TRUE(event.logprob.has_value());
    ASSERT_EQ(event.top_logprobs.size(), 4U);
    EXPECT_EQ(event.top_logprobs[0].token, event.token) << "top_k 1 takes the most likely";
    EXPECT_DOUBLE_EQ(event.top_logprobs[0].logprob, *event.logprob);
    for (size_t i = 1; i < 4; ++i) EXPECT_GE(event.top_logprobs[i - 1].logprob, event.top_logprobs[i].logprob);
    // Favourite 2, 63 others below 1: by hand the favourite has between 2.8% and 11%.
    EXPECT_GT(*event.logprob, std::log(0.028));
    EXPECT_LT(*event.logprob, std::log(0.11));
  }
}

// Random arrivals, forks, forces, cancellations over a small cache: everything ends, nothing leaks, and the fake runner
// would notice any wrong page.
TEST(Engine, RandomUseNeverMixesPages) {
  for (uint64_t seed = 0; seed < 30; ++seed) {
    FakeRunner runner({});
    Engine engine(runner, {.context = 60, .max_running = 5, .prefill_chunk = 6, .max_kv_tokens = 80});
    Outcomes outcomes;
    std::vector<RequestId> ids;
    std::map<RequestId, std::vector<int32_t>> prompts;
    std::map<RequestId, std::vector<int32_t>> starts;  // Tokens that a fork took over.
    for (uint64_t i = 0; i < 300; ++i) {
      const auto dice = [&](uint64_t what, uint64_t n) { return random_bits(seed, what, i) % n; };
      const RequestId some = ids.empty() ? 0 : ids[dice(1, ids.size())];
      const bool is_alive = some != 0 && outcomes[some].finish == FinishReason::kNone;
      switch (dice(0, 10)) {
        case 0:
        case 1: {
          Request request =
              make_request(make_prompt(1 + dice(2, 20), seed * 1000 + i), static_cast<int64_t>(dice(3, 30)));
          prompts[engine.add(request)] = request.prompt;
          ids.push_back(prompts.rbegin()->first);
          break;
        }
        case 2:
          if (is_alive && engine.has_work()) {
            try {
              const RequestId child = engine.fork(some, i);
              ids.push_back(child);
              prompts[child] = prompts[some];
              starts[child] = starts[some];
              const auto& said = outcomes[some].tokens;
              starts[child].insert(starts[child].end(), said.begin(), said.end());
            } catch (const Error&) {  // It has ended already; its last event comes with the next step.
            }
          }
          break;
        case 3:
          if (is_alive) engine.force_tokens(some, std::vector<int32_t>{1, 2, 3});
          break;
        case 4:
          if (dice(4, 3) == 0) engine.cancel(some);
          break;
        default:
          collect(engine.step(), outcomes);
      }
    }
    for (const auto& [id, outcome] : run_all(engine)) {
      for (const auto& event : outcome.events) collect({event}, outcomes);
    }
    for (const RequestId id : ids) {
      ASSERT_NE(outcomes[id].finish, FinishReason::kNone);
      ASSERT_NE(outcomes[id].finish, FinishReason::kError);
      auto history = prompts[id];
      history.insert(history.end(), starts[id].begin(), starts[id].end());
      for (const auto& event : outcomes[id].events) {
        if (event.token < 0) continue;
        if (!event.is_forced) {
          ASSERT_EQ(event.token, runner.expected_token(history)) << "seed " << seed;
        }
        history.push_back(event.token);
      }
    }
    ASSERT_EQ(engine.stats().n_pages_used, 0);
  }
}

TEST(Engine, PagesBehindTheWindowsAreForgottenAndNoOthers) {
  for (const bool is_short_of_pages : {false, true}) {
    FakeRunnerOptions options;
    options.window = 11;
    if (is_short_of_pages) options.max_pages = 40;
    FakeRunner runner(options);
    EngineOptions engine_options;
    engine_options.prefill_chunk = 7;
    Engine engine(runner, engine_options);
    // Forks share pages while one goes on and others wait, end or are preempted. The fake runner checks every read.
    std::map<RequestId, std::vector<int32_t>> expected;
    const auto add = [&](size_t n_prompt, uint64_t seed, int64_t n_tokens) {
      const Request request = make_request(make_prompt(n_prompt, seed), n_tokens);
      const RequestId id = engine.add(request);
      expected[id] = greedy_reply(runner, request.prompt, static_cast<size_t>(n_tokens));
      return id;
    };
    const RequestId first = add(30, 1, 60);
    add(9, 2, 80);
    expected[engine.fork(first, 1)] = expected[first];
    Outcomes outcomes;
    for (int i = 0; i < 25; ++i) collect(engine.step(), outcomes);
    expected[engine.fork(first, 2)] = {};  // Its tokens so far are not reported again.
    engine.cancel(first);
    add(41, 3, 30);
    for (const auto& [id, outcome] : run_all(engine)) {
      Outcome& all = outcomes[id];
      all.tokens.insert(all.tokens.end(), outcome.tokens.begin(), outcome.tokens.end());
      all.finish = outcome.finish;
    }
    for (const auto& [id, tokens] : expected) {
      if (id == first || tokens.empty()) continue;
      EXPECT_EQ(outcomes[id].finish, FinishReason::kLength);
      EXPECT_EQ(outcomes[id].tokens, tokens) << id;
    }
    EXPECT_GT(runner.n_forgotten(), 20);
  }
}

}  // namespace
}  // namespace mobilellm
