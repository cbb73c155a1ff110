// Guessing ahead changes nothing: random use of the engine with and without it gives the same events.
#include <gtest/gtest.h>

#include <map>
#include <stdexcept>
#include <string>

#include "backend/fake/fake_runner.h"
#include "base/random.h"
#include "engine/engine.h"

namespace mobilellm {
namespace {

// Small vocabulary and mostly repeated words, so that guesses are often right for a while and then wrong.
constexpr int kVocabulary = 12;
constexpr int32_t kEos = 11;

std::optional<int32_t> say(std::span<const int32_t> history) {
  const auto n = history.size();
  const auto last = static_cast<uint64_t>(history[n - 1]);
  const uint64_t before = n > 1 ? static_cast<uint64_t>(history[n - 2]) : 0;
  if (random_bits(last, before, n / 7) % 8 == 0) return std::nullopt;  // Left to chance.
  return static_cast<int32_t>(random_bits(3, last, before) % 7);
}

std::vector<int32_t> make_prompt(uint64_t seed, size_t n) {
  std::vector<int32_t> prompt(n);
  for (size_t i = 0; i < n; ++i) prompt[i] = static_cast<int32_t>(random_bits(seed, 1, i % 9) % 7);
  return prompt;
}

// What one request was told, in words that do not depend on ids.
using Story = std::vector<std::string>;

std::string describe(const TokenEvent& event) {
  std::string text = std::to_string(event.token) + (event.is_forced ? " forced " : " ") + to_string(event.finish);
  if (event.logprob) text += " " + std::to_string(*event.logprob);
  for (const TokenLogprob& top : event.top_logprobs) {
    text += " " + std::to_string(top.token) + ":" + std::to_string(top.logprob);
  }
  return text + (event.error ? event.error->what() : "");
}

// Runs requests that are forced, forked, ended and joined by others after certain of their own tokens.
class Scenario {
 public:
  Scenario(uint64_t seed, const EngineOptions& options)
      : seed_(seed), runner_(make_runner()), engine_(runner_, options) {
    runner_.set_script(say);
  }

  std::map<std::string, Story> run() {
    for (uint64_t i = 0; i < 6; ++i) add(std::to_string(i), i);
    for (int i = 0; engine_.has_work(); ++i) {
      EXPECT_LT(i, 100000) << "the engine makes no progress";
      if (i >= 100000) break;
      engine_.step([this](const TokenEvent& event) { on_event(event); });
    }
    EXPECT_EQ(engine_.stats().n_pages_used, 0);
    return stories_;
  }

  EngineStats stats() const { return engine_.stats(); }

 private:
  static FakeRunnerOptions make_runner() {
    FakeRunnerOptions options;
    options.vocab_size = kVocabulary;
    return options;
  }

  uint64_t dice(uint64_t what, uint64_t of, uint64_t n) const { return random_bits(seed_, what, of) % n; }

  void add(const std::string& name, uint64_t number) {
    Request request;
    request.prompt = make_prompt(seed_ + dice(10, number, 3), 1 + dice(11, number, 30));
    request.max_tokens = dice(12, number, 4) == 0 ? -1 : static_cast<int64_t>(dice(13, number, 70));
    request.eos_ids = {kEos};
    request.stream = number;
    request.sampling.seed = seed_;
    request.sampling.temperature = dice(14, number, 2) == 0 ? 0 : 0.8;
    if (dice(15, number, 3) == 0) request.sampling.top_p = 0.9;
    if (dice(16, number, 3) == 0) request.sampling.repetition_penalty = 1.2;
    if (dice(17, number, 3) == 0) request.sampling.frequency_penalty = 0.05;
    if (dice(18, number, 4) == 0) request.sampling.no_repeat_ngram = 6;
    if (dice(19, number, 3) == 0) request.n_logprobs = 2;
    names_[engine_.add(request)] = name;
  }

  void on_event(const TokenEvent& event) {
    const std::string name = names_.at(event.id);
    Story& story = stories_[name];
    story.push_back(describe(event));
    if (event.finish != FinishReason::kNone) return;
    // What happens depends on the request's own course alone.
    const uint64_t now = std::hash<std::string>()(name) + story.size();
    switch (dice(1, now, 60)) {
      case 0:
        engine_.force_tokens(event.id, std::vector<int32_t>{1, 2, kEos, 3});
        break;
      case 1:
        engine_.finish(event.id, FinishReason::kLoop);
        break;
      case 2:
        engine_.cancel(event.id);
        break;
      case 3:
        if (name.size() < 6) names_[engine_.fork(event.id, now)] = name + "/" + std::to_string(story.size());
        break;
      case 4:
        if (name.size() < 6) add(name + "+" + std::to_string(story.size()), now);
        break;
      default:
        break;
    }
  }

  uint64_t seed_;
  FakeRunner runner_;
  Engine engine_;
  std::map<RequestId, std::string> names_;
  std::map<std::string, Story> stories_;
};

void expect_same(const std::map<std::string, Story>& plain, const std::map<std::string, Story>& guessed) {
  for (const auto& [name, story] : plain) {
    const auto found = guessed.find(name);
    ASSERT_NE(found, guessed.end()) << name;
    EXPECT_EQ(found->second, story) << name;
  }
  EXPECT_EQ(plain.size(), guessed.size());
}

// How guesses are made in a comparison.
struct Guesses {
  const char* name;
  bool has_model;
  uint64_t n_wrong;     // Of 16 guesses of the draft model.
  int max_draft_pages;  // Of its cache.
};

class SpeculationTest : public ::testing::TestWithParam<Guesses> {};

TEST_P(SpeculationTest, RandomUseGivesTheSameEvents) {
  uint64_t n_accepted = 0;
  uint64_t n_rejected = 0;
  uint64_t n_preemptions = 0;
  for (uint64_t seed = 0; seed < 60; ++seed) {
    SCOPED_TRACE(seed);
    EngineOptions options{.context = 90, .max_running = 1 + static_cast<int>(seed % 7), .prefill_chunk = 9};
    if (seed % 2 == 1) options.max_kv_tokens = 120;
    Scenario plain(seed, options);
    options.speculation = {
        .mode = SpeculationMode::kAuto, .max_draft = 1 + static_cast<int>(seed % 11), .is_eager = true};
    FakeRunner draft_model({.vocab_size = kVocabulary,
                            .page_tokens = 3,
                            .max_context = seed % 3 == 0 ? 60 : 256,
                            .max_pages = GetParam().max_draft_pages});
    draft_model.set_script([](std::span<const int32_t> history) -> std::optional<int32_t> {
      const bool is_wrong = random_bits(8, history.size(), 0) % 16 < GetParam().n_wrong;
      return is_wrong ? std::optional<int32_t>(0) : say(history);
    });
    if (GetParam().has_model) options.speculation.draft_model = &draft_model;
    Scenario guessed(seed, options);
    expect_same(plain.run(), guessed.run());
    const EngineStats stats = guessed.stats();
    n_accepted += stats.speculation.n_accepted;
    n_rejected += stats.speculation.n_drafted - stats.speculation.n_accepted;
    n_preemptions += stats.n_preemptions;
    if (GetParam().has_model) {
      EXPECT_GT(draft_model.n_forwards(), 0);
    }
  }
  // The test is worth something only if all of this happened often.
  EXPECT_GT(n_accepted, 1000U);
  EXPECT_GT(n_rejected, GetParam().n_wrong > 0 || !GetParam().has_model ? 1000U : 0U);
  EXPECT_GT(n_preemptions, 20U);
}

INSTANTIATE_TEST_SUITE_P(Sources, SpeculationTest,
                         ::testing::Values(Guesses{"lookup", false, 0, 1}, Guesses{"sure_model", true, 0, 1 << 20},
                                           Guesses{"weak_model", true, 5, 1 << 20},
                                           Guesses{"little_memory", true, 2, 25}),
                         [](const auto& tested) { return tested.param.name; });

// A reply that repeats the prompt, so that every guess is right.
struct Repeating {
  Repeating() : runner(FakeRunnerOptions{.vocab_size = 40}) {
    runner.set_script([](std::span<const int32_t> history) { return history[history.size() - 10]; });
    for (int32_t i = 0; i < 20; ++i) request.prompt.push_back(i % 10);
    request.max_tokens = 60;
  }
  FakeRunner runner;
  Request request;
};

EngineOptions eager(int max_draft) {
  return {.speculation = {.mode = SpeculationMode::kLookup, .max_draft = max_draft, .is_eager = true}};
}

TEST(Speculation, RightGuessesSaveSteps) {
  Repeating text;
  Engine engine(text.runner, eager(9));
  engine.add(text.request);
  int64_t n = 0;
  while (engine.has_work()) n += static_cast<int64_t>(engine.step().size());
  EXPECT_EQ(n, 60);
  EXPECT_EQ(engine.stats().n_steps, 1U + 6U) << "one token after the prompt, then ten a step";
  EXPECT_EQ(engine.stats().speculation.n_accepted, engine.stats().speculation.n_drafted);
  EXPECT_EQ(engine.stats().speculation.n_accepted, 53U);
  EXPECT_EQ(engine.stats().n_pages_used, 0);
}

TEST(Speculation, ARequestMayRefuse) {
  Repeating text;
  Engine engine(text.runner, eager(9));
  text.request.may_speculate = false;
  engine.add(text.request);
  while (engine.has_work()) EXPECT_LE(engine.step().size(), 1U);
  EXPECT_EQ(engine.stats().speculation.n_drafted, 0U);
}

TEST(Speculation, GuessesNeverTakePagesFromOthers) {
  Repeating text;
  EngineOptions options = eager(32);
  options.max_kv_tokens = 96;  // Just enough for both: 2 * (20 + 28) tokens.
  Engine engine(text.runner, options);
  text.request.max_tokens = 28;
  engine.add(text.request);
  engine.add(text.request);
  while (engine.has_work()) (void)engine.step();
  EXPECT_GT(engine.stats().speculation.n_accepted, 0U);
  EXPECT_EQ(engine.stats().n_preemptions, 0U);
}

TEST(Speculation, NothingFollowsWhatTheHandlerEndsOrForces) {
  Repeating text;
  Engine engine(text.runner, eager(16));
  const RequestId id = engine.add(text.request);
  std::vector<int32_t> tokens;
  bool has_ended = false;
  while (engine.has_work()) {
    engine.step([&](const TokenEvent& event) {
      EXPECT_FALSE(has_ended);
      has_ended = event.finish != FinishReason::kNone;
      if (event.token >= 0) tokens.push_back(event.token);
      if (tokens.size() == 7) engine.force_tokens(id, std::vector<int32_t>{30, 31});
      if (tokens.size() == 15) engine.finish(id, FinishReason::kStop);
    });
  }
  EXPECT_TRUE(has_ended);
  // Forced tokens become part of what the script repeats.
  EXPECT_EQ(tokens, (std::vector<int32_t>{0, 1, 2, 3, 4, 5, 6, 30, 31, 9, 0, 1, 2, 3, 4}));
  EXPECT_EQ(engine.stats().n_pages_used, 0);
}

TEST(Speculation, AnExceptionOfTheHandlerLosesNothingButItsEvents) {
  const auto run = [](bool throws) {
    Repeating text;
    Engine engine(text.runner, eager(7));
    std::map<RequestId, int> n_tokens;
    engine.add(text.request);
    engine.add(text.request);
    int n_events = 0;
    while (engine.has_work()) {
      try {
        engine.step([&](const TokenEvent& event) {
          if (event.token >= 0) ++n_tokens[event.id];
          if (throws && ++n_events % 3 == 0) throw std::runtime_error("handler");
        });
      } catch (const std::runtime_error&) {
      }
    }
    EXPECT_EQ(engine.stats().n_pages_used, 0);
    return n_tokens;
  };
  EXPECT_EQ(run(true), run(false));
}

TEST(Speculation, AHandlerMayNotStep) {
  Repeating text;
  Engine engine(text.runner, eager(7));
  engine.add(text.request);
  EXPECT_THROW(engine.step([&](const TokenEvent&) { (void)engine.step(); }), Error);
}

TEST(Speculation, OptionsAreChecked) {
  FakeRunner runner({});
  EXPECT_THROW(Engine(runner, eager(0)), Error);
  EXPECT_THROW(Engine(runner, eager(65)), Error);
}

// Two samples of one prompt: the draft model computes its whole pages once, too.
TEST(Speculation, TheDraftModelSharesBeginnings) {
  Repeating text;
  FakeRunner draft_model({.vocab_size = 40});
  draft_model.set_script([](std::span<const int32_t> history) { return history[history.size() - 10]; });
  EngineOptions options = eager(4);
  options.speculation.mode = SpeculationMode::kAuto;
  options.speculation.draft_model = &draft_model;
  Engine engine(text.runner, options);
  for (int32_t i = 0; i < 20; ++i) text.request.prompt[static_cast<size_t>(i)] = i;  // Nothing to look up.
  const RequestId id = engine.add(text.request);
  (void)engine.fork(id, 1);
  (void)engine.step();
  (void)engine.step();
  EXPECT_LE(draft_model.n_tokens_computed(), 21 + 1 + 2 * 4) << "21 once, not twice";
  while (engine.has_work()) (void)engine.step();
  EXPECT_GT(engine.stats().speculation.n_accepted, 60U);
}

TEST(Speculation, AFailingDraftModelIsLeftAlone) {
  Repeating text;
  FakeRunner draft_model({.vocab_size = 40});
  draft_model.break_after(0);
  for (int32_t i = 0; i < 20; ++i) text.request.prompt[static_cast<size_t>(i)] = i;  // Nothing to look up.
  EngineOptions options = eager(4);
  options.speculation.mode = SpeculationMode::kAuto;
  options.speculation.draft_model = &draft_model;
  Engine engine(text.runner, options);
  engine.add(text.request);
  size_t n = 0;
  while (engine.has_work()) n += engine.step().size();
  EXPECT_EQ(n, 60U);
  EXPECT_EQ(draft_model.n_forwards(), 2) << "to catch up, and to guess in vain";
}

TEST(Speculation, TheDraftModelNeedsTheSameVocabulary) {
  FakeRunner runner({.vocab_size = 40});
  FakeRunner draft_model({.vocab_size = 41});
  try {
    Engine engine(runner, {.speculation = {.mode = SpeculationMode::kAuto, .draft_model = &draft_model}});
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
    EXPECT_NE(std::string(error.what()).find("got a vocabulary of 41 tokens, expected 40"), std::string::npos);
  }
}

}  // namespace
}  // namespace mobilellm
