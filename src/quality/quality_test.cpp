// Text sets, estimates, rows of logits, perplexity against the reference implementation, comparison against brute
// force.
#include <fmt/core.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numeric>

#include "backend/fake/fake_runner.h"
#include "base/json.h"
#include "mobilellm/error.h"
#include "quality/chunk_batches.h"
#include "quality/comparison.h"
#include "quality/comparison_json.h"
#include "quality/logit_rows.h"
#include "quality/measured_model.h"
#include "quality/perplexity.h"
#include "tests/support/scratch_folder.h"

namespace mobilellm {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

const std::string kModel = MOBILELLM_SOURCE_DIR "/tests/golden/e2e/r1_chat";

template <typename Work>
std::string error_of(Work work, ErrorCode code) {
  try {
    work();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    return error.what();
  }
  ADD_FAILURE() << "no error";
  return "";
}

TEST(Estimate, StandardErrorIsThatOfClusters) {
  // numpy: mean, sqrt(sum((sum(c) - mean * len(c))^2) * C / (C - 1)) / N.
  ClusteredMean mean;
  EXPECT_EQ(mean.estimate().mean, 0);
  const std::vector<std::vector<double>> clusters = {{1, 2, 4}, {0.5, 0.25}, {}, {3, 3.5, 1, 0}};
  for (const std::vector<double>& cluster : clusters) {
    for (const double value : cluster) mean.add(value);
    mean.end_cluster();
    if (mean.n_values() == 3) {
      EXPECT_NEAR(mean.estimate().error, 0.8819171036881969, 1e-12);  // One cluster: std(ddof=1) / sqrt(3).
    }
  }
  EXPECT_EQ(mean.n_values(), 9);
  EXPECT_NEAR(mean.estimate().mean, 1.6944444444444444, 1e-14);
  EXPECT_NEAR(mean.estimate().error, 0.45458468259875023, 1e-12);
}

TEST(Estimate, PercentilesAreThoseOfNumpy) {
  std::vector<float> values = {5, 1, 4, 2, 3.5F, 9};
  EXPECT_NEAR(percentile(values, 0.9), 7.0, 1e-6);
  EXPECT_NEAR(percentile(values, 0.99), 8.8, 1e-6);
  EXPECT_NEAR(percentile(values, 0.5), 3.75, 1e-6);
  EXPECT_EQ(percentile(values, 0), 1);
  EXPECT_EQ(percentile(values, 1), 9);
  values.clear();
  EXPECT_EQ(percentile(values, 0.5), 0);
}

TEST(LogitRows, DivergenceIsThatOfNumpy) {
  const std::vector<float> a = {2.5F, -1.0F, 0.25F, 3.75F, -8.0F, 0.5F};
  const std::vector<float> b = {2.0F, -0.5F, 0.75F, 1.25F, -20.0F, 4.0F};
  const RowPair pair = compare_rows(a, b);
  EXPECT_NEAR(pair.a.log_sum, 4.060521241140696, 1e-14);
  EXPECT_NEAR(pair.b.log_sum, 4.222460397098326, 1e-14);
  EXPECT_NEAR(pair.kl, 1.9859602605289621, 1e-14);
  EXPECT_EQ(pair.a.top, 3);
  EXPECT_EQ(pair.b.top, 5);
  EXPECT_EQ(summarize_row(a).log_sum, pair.a.log_sum);
  EXPECT_EQ(compare_rows(a, a).kl, 0);
  // The same distribution from shifted logits, far from where exp works.
  const std::vector<float> high = {1002.5F, 999.0F, 1000.25F, 1003.75F, 992.0F, 1000.5F};
  EXPECT_NEAR(compare_rows(a, high).kl, 0, 1e-12);
}

TEST(LogitRows, BrokenLogitsShow) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float inf = std::numeric_limits<float>::infinity();
  for (const float bad : {nan, inf, -inf}) {
    for (size_t at = 0; at < 3; ++at) {
      const std::vector<float> good = {1, 2, 3};
      std::vector<float> broken = good;
      broken[at] = bad;
      EXPECT_FALSE(std::isfinite(compare_rows(good, broken).kl)) << bad << at;
      EXPECT_FALSE(std::isfinite(compare_rows(broken, good).kl)) << bad << at;
    }
  }
}

TEST(ChunkBatches, FillUpAndCutLongChunks) {
  const auto describe = [](const std::vector<ChunkBatch>& plan) {
    std::string text;
    for (const ChunkBatch& batch : plan) {
      for (const ChunkPart& part : batch) text += fmt::format("{}:{}-{} ", part.chunk, part.begin, part.end);
      text += "| ";
    }
    return text;
  };
  std::vector<std::vector<int32_t>> chunks;
  for (const size_t size : {3U, 4U, 0U, 1U, 3U, 17U, 8U, 2U}) chunks.emplace_back(size, 1);
  EXPECT_EQ(describe(plan_batches(chunks, 8)),
            "0:0-3 1:0-4 3:0-1 | 4:0-3 | 5:0-8 | 5:8-16 | 5:16-17 | 6:0-8 | 7:0-2 | ");
  EXPECT_TRUE(plan_batches({}, 8).empty());
  EXPECT_EQ(batch_tokens(1000), 512);
  EXPECT_EQ(batch_tokens(262144), 128);
  EXPECT_EQ(batch_tokens(std::numeric_limits<int>::max()), 16);
}

TEST(TextSets, ConsecutiveChunksOfAnyFormat) {
  const ScratchFolder folder;
  const LoadedText text = load_text_parts(kModel);
  const std::string words = "one two three\n\nfour five six seven eight nine ten";
  const std::vector<int32_t> ids = text.tokenizer->encode(words);
  ASSERT_GT(ids.size(), 14U);
  const TextSet plain = read_text_set(folder.write("a.txt", words), text, {.chunk_tokens = 5});
  ASSERT_EQ(plain.chunks.size(), ids.size() / 5);
  EXPECT_EQ(plain.n_left_out, static_cast<int64_t>(ids.size() % 5));
  for (size_t i = 0; i < plain.chunks.size() * 5; ++i) EXPECT_EQ(plain.chunks[i / 5][i % 5], ids[i]);

  const std::string rows = folder.write(
      "a.jsonl", "{\"text\": \"one two three\"}\r\n\n{\"id\": 3, \"text\": \"four five six seven eight nine ten\"}");
  EXPECT_EQ(read_text_set(rows, text, {.chunk_tokens = 5}).chunks, plain.chunks);
  EXPECT_EQ(read_text_set(rows, text, {.chunk_tokens = 5, .max_chunks = 2}).chunks.size(), 2U);
  const TextSet whole = read_text_set(rows, text, {.chunk_tokens = 4000});
  EXPECT_THAT(whole.chunks, ElementsAre(ids));
  EXPECT_EQ(whole.n_left_out, 0);

  const std::string chat = folder.write(
      "chat.jsonl",
      "{\"messages\": [{\"role\": \"user\", \"content\": \"hi\"}, {\"role\": \"assistant\", \"content\": \"yes\"}]}\n");
  EXPECT_THAT(read_text(chat, text), AllOf(HasSubstr("hi"), HasSubstr("yes"), HasSubstr("<|")));
}

TEST(TextSets, BadTextIsNamed) {
  const ScratchFolder folder;
  LoadedText text = load_text_parts(kModel);
  const auto error = [&](const std::string& name, const std::string& bytes, ErrorCode code) {
    return error_of([&] { read_text_set(folder.write(name, bytes), text, {}); }, code);
  };
  EXPECT_THAT(error("a.txt", "", ErrorCode::kInvalidArgument), HasSubstr("got 0 tokens"));
  EXPECT_THAT(error("a.txt", "one\ntw\xC3o", ErrorCode::kCorruptData), HasSubstr("byte 6 (line 2) is not UTF-8"));
  EXPECT_THAT(error("a.jsonl", "{\"text\": \"a\"}\n{\"txt\": 1}\n", ErrorCode::kCorruptData), HasSubstr("line 2"));
  EXPECT_THAT(error("a.jsonl", "{\"text\": \"a\"\n", ErrorCode::kCorruptData), HasSubstr("line 1"));
  EXPECT_THAT(error("a.jsonl", "[]\n", ErrorCode::kCorruptData), HasSubstr("line 1"));
  error("a.jsonl", "{\"messages\": 3}\n", ErrorCode::kInvalidArgument);
  error_of([&] { read_text_set(folder / "none.txt", text, {}); }, ErrorCode::kNotFound);
  error_of([&] { read_text_set(folder.write("b.txt", "a b c"), text, {.chunk_tokens = 1}); },
           ErrorCode::kInvalidArgument);
  text.chat_template = nullptr;
  EXPECT_THAT(error("a.jsonl", "{\"messages\": []}\n", ErrorCode::kInvalidArgument), HasSubstr("no chat template"));
  text.tokenizer = nullptr;
  EXPECT_THAT(error("a.txt", "x", ErrorCode::kNotFound), HasSubstr("no tokenizer"));
}

RunnerOptions exact() {
  RunnerOptions options;
  options.n_threads = 1;
  options.is_exact = true;
  return options;
}

TEST(Perplexity, IsThatOfTheReferenceImplementation) {
  const Json golden = Json::parse_file(kModel + "/golden_scores.json");
  const Json& reference = *golden.find("perplexity");
  TextSet set;
  set.chunks.emplace_back();
  for (const Json& id : reference.find("ids")->as_array()) {
    set.chunks.back().push_back(static_cast<int32_t>(id.as_int()));
  }
  const MeasuredModel model = open_measured_model(kModel, exact());
  const PerplexityReport report = measure_perplexity(*model.runner, std::span(&set, 1), {});
  const double expected = reference.find("perplexity")->as_double();
  EXPECT_NEAR(report.total.perplexity().mean / expected, 1, 1e-4);
  EXPECT_EQ(report.total.n_predicted, static_cast<int64_t>(set.chunks[0].size()) - 1);
}

// Chunks of many sizes, one longer than a batch.
std::vector<TextSet> random_sets() {
  std::vector<TextSet> sets(2);
  uint32_t state = 1;
  for (const size_t size : {700U, 64U, 3U, 200U, 2U, 100U}) {
    std::vector<std::vector<int32_t>>& chunks = sets[size == 64U || size == 700U ? 1 : 0].chunks;
    chunks.emplace_back();
    for (size_t i = 0; i < size; ++i) {
      state = state * 1664525U + 1013904223U;
      chunks.back().push_back(static_cast<int32_t>((state >> 16U) % 1000U));
    }
  }
  sets[0].path = "first";
  sets[1].path = "second";
  return sets;
}

// Softmax of every position of one chunk, by one forward pass of it alone.
std::vector<std::vector<double>> distributions(Runner& runner, const std::vector<int32_t>& ids) {
  const auto vocab = static_cast<size_t>(runner.spec().vocab_size);
  std::vector<int32_t> pages(ids.size() / static_cast<size_t>(runner.page_tokens()) + 1);
  std::iota(pages.begin(), pages.end(), 0);
  runner.reserve_pages(static_cast<int>(pages.size()));
  std::vector<float> logits(ids.size() * vocab);
  const SequenceSlice slice = {ids, 0, pages, static_cast<int>(ids.size())};
  runner.forward(std::span(&slice, 1), logits.data());
  std::vector<std::vector<double>> rows;
  for (size_t i = 0; i < ids.size(); ++i) {
    std::vector<double> row(logits.begin() + static_cast<std::ptrdiff_t>(i * vocab),
                            logits.begin() + static_cast<std::ptrdiff_t>((i + 1) * vocab));
    double sum = 0;
    for (double& value : row) sum += value = std::exp(value);
    for (double& value : row) value /= sum;
    rows.push_back(row);
  }
  return rows;
}

TEST(Comparison, IsThatOfBruteForce) {
  RunnerOptions coarse = exact();
  coarse.kv_dtype = KvDtype::kQ8;
  const MeasuredModel a = open_measured_model(kModel, exact());
  const MeasuredModel b = open_measured_model(kModel, coarse);
  const std::vector<TextSet> sets = random_sets();
  CompareOptions options;
  options.n_threads = 2;
  options.max_flips = 3;
  const ComparisonReport report = compare_models(*a.runner, *b.runner, sets, options);

  double kl = 0, loss_a = 0, loss_b = 0, worst = 0;
  int64_t n = 0, n_predicted = 0, n_same = 0;
  std::vector<double> gaps;
  for (const TextSet& set : sets) {
    for (const std::vector<int32_t>& ids : set.chunks) {
      const auto p = distributions(*a.runner, ids);
      const auto q = distributions(*b.runner, ids);
      for (size_t i = 0; i < ids.size(); ++i) {
        double sum = 0;
        for (size_t v = 0; v < p[i].size(); ++v) sum += p[i][v] * std::log(p[i][v] / q[i][v]);
        kl += sum;
        worst = std::max(worst, sum);
        const auto top_a = std::max_element(p[i].begin(), p[i].end()) - p[i].begin();
        const auto top_b = std::max_element(q[i].begin(), q[i].end()) - q[i].begin();
        n_same += top_a == top_b ? 1 : 0;
        if (top_a != top_b) gaps.push_back(p[i][static_cast<size_t>(top_a)] - p[i][static_cast<size_t>(top_b)]);
        ++n;
        if (i + 1 == ids.size()) continue;
        loss_a -= std::log(p[i][static_cast<size_t>(ids[i + 1])]);
        loss_b -= std::log(q[i][static_cast<size_t>(ids[i + 1])]);
        ++n_predicted;
      }
    }
  }
  const TextComparison& total = report.total;
  const auto count = static_cast<double>(n);
  EXPECT_EQ(total.n_positions, n);
  EXPECT_EQ(total.n_predicted, n_predicted);
  EXPECT_EQ(total.n_chunks, 6);
  EXPECT_GT(kl / count, 1e-8);
  EXPECT_NEAR(total.kl.mean, kl / count, 1e-9 * kl / count + 1e-13);
  EXPECT_NEAR(total.kl_max, worst, 1e-6 * worst);
  EXPECT_NEAR(total.nll_a.mean, loss_a / static_cast<double>(n_predicted), 1e-10);
  EXPECT_NEAR(total.nll_change.mean, (loss_b - loss_a) / static_cast<double>(n_predicted), 1e-10);
  EXPECT_NEAR(total.ppl_ratio().mean, std::exp((loss_b - loss_a) / static_cast<double>(n_predicted)), 1e-9);
  EXPECT_NEAR(total.top1_agreement.mean, static_cast<double>(n_same) / count, 1e-12);
  EXPECT_EQ(report.n_flips, n - n_same);
  std::sort(gaps.rbegin(), gaps.rend());
  ASSERT_EQ(report.flips.size(), std::min<size_t>(3, gaps.size()));
  for (size_t i = 0; i < report.flips.size(); ++i) {
    EXPECT_NEAR(report.flips[i].a_of_a - report.flips[i].b_of_a, gaps[i], 1e-9);
  }

  // Both texts together are the total; the same bits for another number of threads.
  ASSERT_EQ(report.texts.size(), 2U);
  EXPECT_EQ(report.texts[0].path, "first");
  EXPECT_EQ(report.texts[0].n_positions + report.texts[1].n_positions, n);
  options.n_threads = 1;
  const ComparisonReport again = compare_models(*a.runner, *b.runner, sets, options);
  EXPECT_EQ(again.total.kl.mean, total.kl.mean);
  EXPECT_EQ(again.total.kl.error, total.kl.error);

  const PerplexityReport perplexity = measure_perplexity(*b.runner, sets, options);
  EXPECT_EQ(perplexity.total.nll.mean, total.nll_b.mean);
  EXPECT_EQ(perplexity.texts[1].nll.error, report.texts[1].nll_b.error);
}

TEST(Comparison, OfAModelWithItselfIsNothing) {
  const MeasuredModel a = open_measured_model(kModel, exact());
  const MeasuredModel b = open_measured_model(kModel, exact());
  const ComparisonReport report = compare_models(*a.runner, *b.runner, random_sets(), {});
  EXPECT_LT(report.total.kl_max, 1e-12);
  EXPECT_EQ(report.total.ppl_ratio().mean, 1);
  EXPECT_EQ(report.total.top1_agreement.mean, 1);
  EXPECT_EQ(report.n_flips, 0);
}

TEST(Comparison, FlipsAreTold) {
  const LoadedText text = load_text_parts(kModel);
  ComparisonReport report;
  TextSet set;
  set.chunks = {text.tokenizer->encode("The quick brown fox")};
  const auto the = text.tokenizer->encode(" the").front();
  report.texts.push_back({});
  report.flips.push_back({0, 0, 1, set.chunks[0][2], the, 0.5, 0.25, 0.125, 0.75, 0.1});
  const std::vector<FlipText> flips = flip_texts(report, std::span(&set, 1), *text.tokenizer);
  ASSERT_EQ(flips.size(), 1U);
  EXPECT_EQ(flips[0].before, text.tokenizer->decode(std::span(set.chunks[0]).first(2)));
  EXPECT_EQ(flips[0].actual, flips[0].text_a);
  Json json = Json::object();
  add_comparison(json, report, flips);
  EXPECT_EQ(json.find("flips")->as_array()[0].find("p_b_of_a")->as_double(), 0.25);
}

TEST(Comparison, RefusesWhatCannotBeCompared) {
  const std::vector<TextSet> sets = {{"text", {{1, 2, 3, 4}, {5, 6, 7, 8}}, 0}};
  FakeRunner a({.vocab_size = 64});
  FakeRunner larger({.vocab_size = 65});
  EXPECT_THAT(error_of([&] { compare_models(a, larger, sets, {}); }, ErrorCode::kInvalidArgument),
              HasSubstr("got 64 and 65 tokens"));
  FakeRunner small({.vocab_size = 64, .max_context = 3});
  EXPECT_THAT(error_of([&] { compare_models(a, small, sets, {}); }, ErrorCode::kContextExceeded),
              HasSubstr("expected at most 3"));
  FakeRunner broken({.vocab_size = 64});
  broken.break_after(0);
  EXPECT_THAT(error_of([&] { compare_models(a, broken, sets, {}); }, ErrorCode::kCorruptData), HasSubstr("of model B"));
  EXPECT_THAT(error_of([&] { compare_models(broken, a, sets, {}); }, ErrorCode::kCorruptData), HasSubstr("of model A"));
  EXPECT_THAT(error_of([&] { measure_perplexity(broken, sets, {}); }, ErrorCode::kCorruptData),
              HasSubstr("not a number"));
  const std::atomic<bool> cancel = true;
  CompareOptions options;
  options.cancel = &cancel;
  EXPECT_THAT(error_of([&] { compare_models(a, a, sets, options); }, ErrorCode::kCancelled), HasSubstr("of 8 tokens"));
}

TEST(MeasuredModel, OtherTokenizersAreRefused) {
  const ScratchFolder folder;
  const MeasuredModel a = open_measured_model(kModel, exact());
  EXPECT_GT(a.bits_per_weight(), 31.9);
  EXPECT_LT(a.bits_per_weight(), 32.1);
  MeasuredModel b;
  b.path = "other";
  const std::vector<std::string> paths = {folder.write("a.txt", "some words of text")};
  EXPECT_EQ(read_text_sets(a, &b, paths, {}).size(), 1U);
  b.text = load_text_parts(MOBILELLM_SOURCE_DIR "/tests/vectors/tokenizers/qwen_tiny");
  EXPECT_THAT(error_of([&] { read_text_sets(a, &b, paths, {}); }, ErrorCode::kInvalidArgument),
              HasSubstr("different tokens"));
}

}  // namespace
}  // namespace mobilellm
