// What decides about storage: the optimiser against brute force, recipes, patterns, predicted losses.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numeric>
#include <random>

#include "base/thread_pool.h"
#include "model/loader.h"
#include "quant/bit_allocation.h"
#include "quant/mixed_plan.h"
#include "quant/recipes.h"
#include "tests/support/scratch_folder.h"

namespace mobilellm {
namespace {

const std::string kModel = MOBILELLM_SOURCE_DIR "/tests/golden/e2e/r1_chat";

struct Total {
  double bits = 0;
  double loss = 0;
};

Total total_of(const std::vector<std::vector<StorageCost>>& matrices, const std::vector<int>& choices) {
  Total total;
  for (size_t m = 0; m < matrices.size(); ++m) {
    total.bits += matrices[m][static_cast<size_t>(choices[m])].bits;
    total.loss += matrices[m][static_cast<size_t>(choices[m])].loss;
  }
  return total;
}

double best_loss(const std::vector<std::vector<StorageCost>>& matrices, double budget) {
  std::vector<int> choices(matrices.size());
  double best = std::numeric_limits<double>::infinity();
  for (;;) {
    const Total total = total_of(matrices, choices);
    if (total.bits <= budget) best = std::min(best, total.loss);
    size_t m = 0;
    while (m < matrices.size() && ++choices[m] == static_cast<int>(matrices[m].size())) choices[m++] = 0;
    if (m == matrices.size()) return best;
  }
}

TEST(BitAllocation, StaysNearTheBestOfAllChoices) {
  std::mt19937 random(3);
  std::uniform_real_distribution<double> uniform(0.5, 2.0);
  double ratio_sum = 0.0;
  constexpr int kCases = 40;
  for (int i = 0; i < kCases; ++i) {
    std::vector<std::vector<StorageCost>> matrices(8);
    double all = 0.0;
    for (std::vector<StorageCost>& matrix : matrices) {
      const double size = uniform(random);
      const double sensitivity = std::exp(3 * uniform(random));
      all += size;
      for (const int bits : {3, 4, 6, 2}) {
        matrix.push_back({bits * size, sensitivity * uniform(random) * std::pow(0.25, bits)});
      }
    }
    const double budget = 3.7 * all;
    const Total total = total_of(matrices, allocate_bits(matrices, budget));
    EXPECT_LE(total.bits, budget);
    const double best = best_loss(matrices, budget);
    EXPECT_LE(total.loss, 2.0 * best);
    ratio_sum += total.loss / best;
  }
  EXPECT_LT(ratio_sum / kCases, 1.15);
}

TEST(BitAllocation, TakesTheCheapestWhenNothingFits) {
  const std::vector<std::vector<StorageCost>> matrices = {{{4, 1}, {2, 9}}, {{8, 1}, {3, 2}}};
  EXPECT_EQ(allocate_bits(matrices, 1.0), (std::vector<int>{1, 1}));
  EXPECT_EQ(allocate_bits(matrices, 100.0), (std::vector<int>{0, 0}));
}

TEST(Overrides, PatternsMatchWholeNames) {
  EXPECT_TRUE(matches_pattern("model.layers.0.*", "model.layers.0.mlp.down_proj"));
  EXPECT_TRUE(matches_pattern("*down_proj", "model.layers.0.mlp.down_proj"));
  EXPECT_TRUE(matches_pattern("*.?_proj", "model.layers.0.self_attn.q_proj"));
  EXPECT_TRUE(matches_pattern("*", ""));
  EXPECT_FALSE(matches_pattern("layers.0.*", "model.layers.0.mlp.down_proj"));
  EXPECT_FALSE(matches_pattern("model.layers.1.*", "model.layers.10.mlp.down_proj"));
  EXPECT_FALSE(matches_pattern("?", ""));
}

TEST(Overrides, SettingsAreReadOrRefused) {
  const StorageOverride groups = parse_override("model.layers.0.*=8:32", ModelFormat::kMlx, 64);
  EXPECT_EQ(groups.pattern, "model.layers.0.*");
  EXPECT_EQ(groups.storage->params, (QuantizationParams{QuantMode::kAffine, 8, 32}));
  EXPECT_EQ(parse_override("a=3", ModelFormat::kMlx, 128).storage->params.group_size, 128);
  EXPECT_FALSE(parse_override("a=float", ModelFormat::kGguf, 64).storage.has_value());
  EXPECT_EQ(parse_override("blk.*=Q6_K", ModelFormat::kGguf, 64).storage->block_type, DType::kQ6_K);
  for (const char* text : {"a", "=4", "a=", "a=4:", "a=4x", "a=7", "a=4:48", "a=Q6_K"}) {
    expect_error(ErrorCode::kInvalidArgument, {}, [&] { parse_override(text, ModelFormat::kMlx, 64); });
  }
  expect_error(ErrorCode::kInvalidArgument, {"GGUF"}, [] { parse_override("a=4", ModelFormat::kGguf, 64); });
}

TEST(Recipes, AreThoseOfMlxLmAndLlamaCpp) {
  ModelSpec spec;
  spec.layers.resize(30);
  const StorageRecipe& mixed = *find_recipe("mixed_3_6");
  // Layers 0 to 2 and 26 to 29, and 5, 8 ... between: (i - 3) % 3 == 2.
  int n_fine = 0;
  for (int i = 0; i < 30; ++i) {
    const bool is_fine = i < 3 || i >= 26 || (i - 3) % 3 == 2;
    n_fine += is_fine ? 1 : 0;
    EXPECT_EQ(mixed.choose(spec, TensorRole::kVProj, i).params.bits, is_fine ? 6 : 3) << i;
    EXPECT_EQ(mixed.choose(spec, TensorRole::kQProj, i).params.bits, 3);
  }
  EXPECT_EQ(n_fine, 14);
  EXPECT_EQ(mixed.choose(spec, TensorRole::kEmbedTokens, -1).params.bits, 3);
  EXPECT_EQ(mixed.choose(spec, TensorRole::kLmHead, -1).params.bits, 6);
  const StorageRecipe& medium = *find_recipe("Q4_K_M");
  EXPECT_EQ(medium.choose(spec, TensorRole::kEmbedTokens, -1).block_type, DType::kQ6_K);
  EXPECT_EQ(medium.choose(spec, TensorRole::kDownProj, 0).block_type, DType::kQ6_K);
  EXPECT_EQ(medium.choose(spec, TensorRole::kDownProj, 3).block_type, DType::kQ4_K);
  spec.is_output_tied = false;
  EXPECT_EQ(medium.choose(spec, TensorRole::kEmbedTokens, -1).block_type, DType::kQ4_K);
  EXPECT_EQ(find_recipe("Q4_K_X"), nullptr);
}

TEST(MixedPlan, LossesFallWithBitsInEveryRole) {
  const LoadedModel model = load_model(kModel);
  const std::vector<std::vector<int32_t>> chunks = {model.tokenizer->encode("one two three four five six seven")};
  ThreadPool pool(1);
  const std::vector<TensorSensitivity> sensitivities =
      tensor_sensitivities(model.spec, model.weights, chunks, 1, pool, {});
  std::vector<MatrixCandidates> candidates;
  for (const TensorRole role : {TensorRole::kEmbedTokens, TensorRole::kVProj, TensorRole::kUpProj}) {
    MatrixCandidates& candidate =
        candidates.emplace_back(MatrixCandidates{role, role == TensorRole::kEmbedTokens ? -1 : 0, {}});
    for (const int bits : {2, 4, 8}) {
      candidate.options.push_back({DType::kU32, {QuantMode::kAffine, bits, 32}, DType::kBF16});
    }
  }
  const std::vector<MatrixLosses> losses = predict_losses(
      model.weights, sensitivities, QuantMethod::kRtn, [](TensorRole, int) { return nullptr; }, candidates, pool, {});
  ASSERT_EQ(losses.size(), 3U);
  for (const MatrixLosses& loss : losses) {
    EXPECT_GT(loss.rounding_loss, 0.0);
    EXPECT_LT(loss.costs[0].bits, loss.costs[1].bits);
    EXPECT_GT(loss.costs[0].loss, 4 * loss.costs[1].loss);
    EXPECT_GT(loss.costs[1].loss, 50 * loss.costs[2].loss);
  }
}

}  // namespace
}  // namespace mobilellm
