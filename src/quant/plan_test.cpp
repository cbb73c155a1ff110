// What decides about storage: the optimiser against brute force, recipes, patterns, predicted losses.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numeric>
#include <random>

#include "base/json.h"
#include "base/thread_pool.h"
#include "model/loader.h"
#include "quant/bit_allocation.h"
#include "quant/mixed_plan.h"
#include "quant/plan_storage.h"
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

TEST(Recipes, AreThoseOfMlxLm) {
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
  EXPECT_EQ(find_recipe("Q4_K_X"), nullptr);
}

// What llama.cpp's own quantizer says about every matrix of three models.
TEST(Recipes, AreThoseOfLlamaCpp) {
  const Json models = Json::parse_file(MOBILELLM_SOURCE_DIR "/tests/vectors/mixtures/llama_cpp.json");
  const auto number = [](const Json& model, const char* key) { return model.find(key)->as_int(); };
  const std::pair<const char*, TensorRole> roles[] = {
      {"q_proj", TensorRole::kQProj},       {"k_proj", TensorRole::kKProj},       {"v_proj", TensorRole::kVProj},
      {"o_proj", TensorRole::kOProj},       {"gate_proj", TensorRole::kGateProj}, {"up_proj", TensorRole::kUpProj},
      {"down_proj", TensorRole::kDownProj},
  };
  int n_checked = 0;
  for (const Json& model : models.as_array()) {
    ModelSpec spec;
    spec.is_output_tied = model.find("tied")->as_bool();
    spec.layers.resize(static_cast<size_t>(number(model, "layers")));
    for (LayerSpec& layer : spec.layers) {
      layer.n_heads = static_cast<int>(number(model, "heads"));
      layer.n_kv_heads = static_cast<int>(number(model, "kv_heads"));
    }
    const int64_t d_model = number(model, "d_model");
    std::vector<TensorEntry> entries = {{TensorRole::kEmbedTokens, -1, {"embed_tokens"}, {1024, d_model}}};
    if (!spec.is_output_tied) entries.push_back({TensorRole::kLmHead, -1, {"lm_head"}, {1024, d_model}});
    for (int i = 0; i < spec.n_layers(); ++i) {
      for (const auto& [name, role] : roles) {
        const int64_t cols = role == TensorRole::kDownProj ? number(model, "d_ff")
                             : role == TensorRole::kOProj  ? number(model, "heads") * number(model, "head_dim")
                                                           : d_model;
        entries.push_back({role, i, {name}, {1024, cols}});
      }
    }
    for (const auto& [mixture, expected] : model.find("mixtures")->as_object()) {
      QuantizeOptions options;
      options.format = ModelFormat::kGguf;
      options.recipe = find_recipe(mixture);
      ASSERT_NE(options.recipe, nullptr) << mixture;
      const StoragePlan plan = plan_fixed(options, spec, entries);
      for (const TensorEntry& entry : entries) {
        const Json& types = *expected.find(entry.names.front());
        std::string type;
        if (types.is_string()) {
          type = types.as_string();
        } else {
          int64_t end = 0;
          for (const Json& run : types.as_array()) {
            end += run.as_array()[1].as_int();
            if (type.empty() && entry.layer < end) type = run.as_array()[0].as_string();
          }
        }
        EXPECT_EQ(storage_name(plan.at({entry.role, entry.layer}).storage.value()), type)
            << mixture << " " << entry.names.front() << " of layer " << entry.layer << ", rows of " << entry.shape[1];
        ++n_checked;
      }
    }
  }
  EXPECT_EQ(n_checked, 8 * (1 + 30 * 7 + 1 + 22 * 7 + 2 + 17 * 7));
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
