// Forward passes against the reference's logits, gradients against the reference's and against finite differences.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <map>
#include <string>

#include "backprop/decoder.h"
#include "backprop/output_loss.h"
#include "base/random.h"
#include "base/thread_pool.h"
#include "codec/codec.h"
#include "formats/safetensors.h"
#include "model/loader.h"

namespace mobilellm {
namespace {

const std::string kGolden = MOBILELLM_SOURCE_DIR "/tests/golden/";

// All weights in memory, so that they can be changed.
class FloatWeights final : public WeightReader {
 public:
  FloatWeights(const ModelSpec& spec, const ModelWeights& weights) {
    for (const MatrixId& id : matrices_of(spec)) {
      const StoredMatrix& matrix = matrix_of(weights, id.role, id.layer);
      std::vector<float>& values = matrices[{id.role, id.layer}];
      values.resize(static_cast<size_t>(matrix.rows * matrix.cols));
      matrix.codec->decode_rows(matrix, 0, matrix.rows, values.data());
      cols[{id.role, id.layer}] = matrix.cols;
    }
    vectors[{TensorRole::kFinalNorm, -1}] = weights.final_norm;
    for (int i = 0; i < spec.n_layers(); ++i) {
      for (const TensorRole role :
           {TensorRole::kAttentionNorm, TensorRole::kAttentionPostNorm, TensorRole::kMlpNorm, TensorRole::kMlpPostNorm,
            TensorRole::kQNorm, TensorRole::kKNorm, TensorRole::kQBias, TensorRole::kKBias, TensorRole::kVBias,
            TensorRole::kOBias, TensorRole::kGateBias, TensorRole::kUpBias, TensorRole::kDownBias}) {
        const std::vector<float>& values = vector_of(weights, role, i);
        if (!values.empty()) vectors[{role, i}] = values;
      }
    }
  }
  const float* rows(TensorRole role, int layer, int64_t begin, int64_t /*end*/, std::vector<float>&) override {
    return matrices.at({role, layer}).data() + begin * cols.at({role, layer});
  }
  std::span<const float> vector(TensorRole role, int layer) override {
    const auto found = vectors.find({role, layer});
    return found == vectors.end() ? std::span<const float>() : found->second;
  }

  using Key = std::pair<TensorRole, int>;
  std::map<Key, std::vector<float>> matrices, vectors;
  std::map<Key, int64_t> cols;
};

// Keeps every gradient.
class AllGradients final : public GradientSink {
 public:
  explicit AllGradients(const FloatWeights& weights) : weights_(weights) {}
  bool wants(TensorRole, int) override { return true; }
  void matrix_gradient(TensorRole role, int layer, const float* gradient) override {
    const size_t n = weights_.matrices.at({role, layer}).size();
    EXPECT_EQ(gradients.count({role, layer}), 0U);
    gradients[{role, layer}].assign(gradient, gradient + n);
  }
  void vector_gradient(TensorRole role, int layer, std::span<const float> gradient) override {
    EXPECT_EQ(gradients.count({role, layer}), 0U);
    gradients[{role, layer}].assign(gradient.begin(), gradient.end());
  }
  void embedding_gradient(std::span<const int32_t> tokens, const float* d_rows) override {
    const int64_t width = weights_.cols.at({TensorRole::kEmbedTokens, -1});
    std::vector<float>& table = gradients[{TensorRole::kEmbedTokens, -1}];
    table.resize(weights_.matrices.at({TensorRole::kEmbedTokens, -1}).size());
    for (size_t i = 0; i < tokens.size(); ++i) {
      for (int64_t d = 0; d < width; ++d) {
        table[static_cast<size_t>(tokens[i] * width + d)] += d_rows[static_cast<int64_t>(i) * width + d];
      }
    }
  }
  std::map<FloatWeights::Key, std::vector<float>> gradients;

 private:
  const FloatWeights& weights_;
};

std::vector<float> floats_of(const WeightSource& source, const std::string& name) {
  return decode_tensor(source.get(name));
}

std::vector<int32_t> ids_of(const WeightSource& source, const std::string& name) {
  const TensorView& tensor = source.get(name);
  std::vector<int32_t> ids(static_cast<size_t>(tensor.n_values()));
  for (size_t i = 0; i < ids.size(); ++i) {
    int64_t id = 0;
    std::memcpy(&id, tensor.data.data() + i * sizeof(id), sizeof(id));
    ids[i] = static_cast<int32_t>(id);
  }
  return ids;
}

// Loss of a batch, and its gradients when asked for.
struct Training {
  Training(const std::string& path, int n_threads, bool recomputes)
      : model(load_model(path)),
        weights(model.spec, model.weights),
        pool(n_threads),
        decoder(model.spec, recomputes, pool),
        loss(model.spec, pool) {}

  std::vector<float> hidden_of(const std::vector<int32_t>& tokens, const std::vector<int64_t>& lengths, bool keeps) {
    std::vector<float> hidden(tokens.size() * static_cast<size_t>(model.spec.d_model));
    decoder.forward(weights, {tokens, lengths}, keeps, hidden.data());
    return hidden;
  }

  double cross_entropy(const std::vector<int32_t>& tokens, const std::vector<int64_t>& lengths,
                       const std::vector<int32_t>& labels, AllGradients* sink) {
    const std::vector<float> hidden = hidden_of(tokens, lengths, sink != nullptr);
    const auto n = std::count_if(labels.begin(), labels.end(), [](int32_t label) { return label != kNoLabel; });
    std::vector<float> d_hidden(hidden.size());
    std::vector<float>* table = table_of(sink);
    const LossResult result =
        loss.cross_entropy(weights, hidden.data(), labels, 1.0 / static_cast<double>(n),
                           sink == nullptr ? nullptr : d_hidden.data(), table == nullptr ? nullptr : table->data());
    EXPECT_EQ(result.n_tokens, n);
    if (sink != nullptr) decoder.backward(weights, d_hidden.data(), *sink);
    return result.sum / static_cast<double>(n);
  }

  std::vector<float>* table_of(AllGradients* sink) {
    if (sink == nullptr) return nullptr;
    std::vector<float>& table = sink->gradients[{output_role(model.spec), -1}];
    table.resize(weights.matrices.at({output_role(model.spec), -1}).size());
    return &table;
  }

  LoadedModel model;
  FloatWeights weights;
  ThreadPool pool;
  Decoder decoder;
  OutputLoss loss;
};

void expect_gradients(const AllGradients& got, const WeightSource& golden) {
  const std::map<std::string, TensorRole> roles = {
      {"embed_tokens", TensorRole::kEmbedTokens},         {"norm", TensorRole::kFinalNorm},
      {"feed_forward.down_proj", TensorRole::kDownProj},  {"feed_forward.gate_proj", TensorRole::kGateProj},
      {"feed_forward.up_proj", TensorRole::kUpProj},      {"input_layernorm", TensorRole::kAttentionNorm},
      {"post_attention_layernorm", TensorRole::kMlpNorm}, {"self_attn.q_proj", TensorRole::kQProj},
      {"self_attn.k_proj", TensorRole::kKProj},           {"self_attn.v_proj", TensorRole::kVProj},
      {"self_attn.o_proj", TensorRole::kOProj},
  };
  size_t n = 0;
  for (const TensorView& tensor : golden.tensors()) {
    if (!tensor.name.ends_with(".weight")) continue;
    std::string name = tensor.name.substr(6, tensor.name.size() - 13);
    int layer = -1;
    if (name.starts_with("layers.")) {
      layer = name[7] - '0';
      name = name.substr(9);
    }
    const std::vector<float>& values = got.gradients.at({roles.at(name), layer});
    const std::vector<float> expected = decode_tensor(tensor);
    ASSERT_EQ(values.size(), expected.size());
    float largest = 0;
    for (const float value : expected) largest = std::max(largest, std::fabs(value));
    for (size_t i = 0; i < values.size(); ++i) ASSERT_NEAR(values[i], expected[i], 1e-5F * largest) << tensor.name;
    ++n;
  }
  EXPECT_EQ(n, got.gradients.size());
}

TEST(Backprop, CrossEntropyAndItsGradientsAreTheReferences) {
  for (const bool recomputes : {false, true}) {
    Training training(kGolden + "training/model", 2, recomputes);
    const auto batches = open_safetensors(kGolden + "training/batches.safetensors");
    const auto golden = open_safetensors(kGolden + "training/grads_batch0.safetensors");
    const std::vector<int32_t> tokens = ids_of(*batches, "batch0.input_ids");
    const std::vector<int32_t> shifted = ids_of(*batches, "batch0.labels");
    std::vector<int32_t> labels(shifted.size(), kNoLabel);
    for (size_t i = 0; i + 1 < labels.size(); ++i) {
      if (i % 20 != 19) labels[i] = shifted[i + 1];
    }
    AllGradients sink(training.weights);
    EXPECT_NEAR(training.cross_entropy(tokens, {20, 20, 20}, labels, &sink), 6.345127582550049, 2e-6);
    expect_gradients(sink, *golden);
  }
}

TEST(Backprop, DivergenceAndItsGradientsAreTheReferences) {
  const auto batches = open_safetensors(kGolden + "training/batches.safetensors");
  const std::vector<int32_t> tokens = ids_of(*batches, "batch0.input_ids");
  const std::vector<int32_t> shifted = ids_of(*batches, "batch0.labels");
  std::vector<uint8_t> counts(shifted.size(), 0);
  for (size_t i = 0; i + 1 < counts.size(); ++i) counts[i] = i % 20 != 19 && shifted[i + 1] != kNoLabel ? 1 : 0;
  for (const double temperature : {1.0, 2.0}) {
    Training student(kGolden + "training/model", 1, false);
    Training teacher(kGolden + "training/teacher", 1, false);
    const auto golden = open_safetensors(
        kGolden + (temperature == 1.0 ? "training/grads_kd_kl.safetensors" : "training/grads_kd_kl_t2.safetensors"));
    const std::vector<int64_t> lengths = {20, 20, 20};
    const std::vector<float> teacher_hidden = teacher.hidden_of(tokens, lengths, false);
    const std::vector<float> hidden = student.hidden_of(tokens, lengths, true);
    std::vector<float> d_hidden(hidden.size());
    AllGradients sink(student.weights);
    const auto n = static_cast<double>(std::count(counts.begin(), counts.end(), 1));
    student.loss.divergence(teacher.weights, teacher_hidden.data(), teacher.model.spec, student.weights, hidden.data(),
                            counts, temperature, 1.0 / n, d_hidden.data(), student.table_of(&sink)->data());
    student.decoder.backward(student.weights, d_hidden.data(), sink);
    expect_gradients(sink, *golden);
  }
}

class EveryModel : public testing::TestWithParam<std::string> {};
std::vector<std::string> model_folders() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(kGolden + "models")) {
    if (entry.is_directory()) names.push_back("models/" + entry.path().filename().string());
  }
  std::sort(names.begin(), names.end());
  names.emplace_back("dual_branch/hf_keys");
  return names;
}
INSTANTIATE_TEST_SUITE_P(Backprop, EveryModel, testing::ValuesIn(model_folders()), [](const auto& param_info) {
  std::string name = param_info.param;
  std::replace(name.begin(), name.end(), '/', '_');
  return name;
});

TEST_P(EveryModel, LogitsAreTheReferences) {
  Training training(kGolden + GetParam(), 2, false);
  const auto golden = open_safetensors(kGolden + GetParam() + "/golden.safetensors");
  // All prompts in one batch.
  std::vector<int32_t> tokens;
  std::vector<int64_t> lengths;
  std::vector<float> expected;
  for (int i = 0; golden->find("prompt" + std::to_string(i) + ".logits") != nullptr; ++i) {
    const std::string prompt = "prompt" + std::to_string(i);
    const std::vector<int32_t> ids = ids_of(*golden, prompt + ".input_ids");
    const std::vector<float> logits = floats_of(*golden, prompt + ".logits");
    tokens.insert(tokens.end(), ids.begin(), ids.end());
    lengths.push_back(static_cast<int64_t>(ids.size()));
    expected.insert(expected.end(), logits.begin(), logits.end());
  }
  ASSERT_FALSE(tokens.empty());
  const std::vector<float> hidden = training.hidden_of(tokens, lengths, false);
  const auto vocab = static_cast<size_t>(training.model.spec.vocab_size);
  const auto width = static_cast<size_t>(training.model.spec.d_model);
  const std::vector<float>& table = training.weights.matrices.at({output_role(training.model.spec), -1});
  for (size_t t = 0; t < tokens.size(); ++t) {
    for (size_t v = 0; v < vocab; ++v) {
      double sum = 0;
      for (size_t d = 0; d < width; ++d) {
        sum += static_cast<double>(hidden[t * width + d]) * static_cast<double>(table[v * width + d]);
      }
      ASSERT_NEAR(sum, expected[t * vocab + v], 3e-4) << "token " << t;
    }
  }
}

// Moving all weights along their gradient must change the loss by |gradient|^2 per step, tensor by tensor.
TEST_P(EveryModel, GradientsAreFiniteDifferences) {
  Training training(kGolden + GetParam(), 2, GetParam().size() % 2 == 0);
  const std::vector<int64_t> lengths = {40, 21};
  std::vector<int32_t> tokens(61);
  for (size_t i = 0; i < tokens.size(); ++i) {
    tokens[i] = static_cast<int32_t>(random_bits(5, 1, i) % static_cast<uint64_t>(training.model.spec.vocab_size));
  }
  std::vector<int32_t> labels = tokens;
  std::rotate(labels.begin(), labels.begin() + 3, labels.end());
  labels[5] = kNoLabel;
  AllGradients sink(training.weights);
  training.cross_entropy(tokens, lengths, labels, &sink);
  EXPECT_EQ(sink.gradients.size(), training.weights.matrices.size() + training.weights.vectors.size());
  for (const auto& [key, gradient] : sink.gradients) {
    const bool is_matrix = training.weights.matrices.count(key) > 0;
    std::vector<float>& weights = is_matrix ? training.weights.matrices[key] : training.weights.vectors[key];
    double square = 0;
    for (const float g : gradient) square += static_cast<double>(g) * static_cast<double>(g);
    // Keys of attention have no effect through a bias that all share, nor has a key norm where nothing is rotated.
    if (square < 1e-10) continue;
    const double step = 2e-3 / std::sqrt(square);
    const std::vector<float> before = weights;
    const auto loss_at = [&](double by) {
      for (size_t i = 0; i < weights.size(); ++i) {
        weights[i] = static_cast<float>(static_cast<double>(before[i]) + by * static_cast<double>(gradient[i]));
      }
      return training.cross_entropy(tokens, lengths, labels, nullptr);
    };
    const double slope = (loss_at(step) - loss_at(-step)) / (2 * step);
    weights = before;
    EXPECT_NEAR(slope / square, 1.0, 0.02)
        << static_cast<int>(key.first) << " layer " << key.second << " |g| " << std::sqrt(square);
  }
}

TEST(Backprop, ThreadsAndRecomputingChangeNoBit) {
  const std::vector<int64_t> lengths = {90, 40};
  std::vector<int32_t> tokens(130);
  for (size_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<int32_t>(random_bits(6, 1, i) % 288);
  const auto gradients = [&](int n_threads, bool recomputes) {
    Training training(kGolden + "models/qwen3", n_threads, recomputes);
    AllGradients sink(training.weights);
    training.cross_entropy(tokens, lengths, tokens, &sink);
    return sink.gradients;
  };
  const auto expected = gradients(1, false);
  EXPECT_EQ(gradients(3, false), expected);
  EXPECT_EQ(gradients(2, true), expected);
}

TEST(Backprop, SketchesHaveTheMomentsOfSampledLabels) {
  const LoadedModel model = load_model(kGolden + "models/qwen3");
  ThreadPool pool(2);
  ModelWeightReader reader(model.weights, pool);
  OutputLoss loss(model.spec, pool);
  const auto vocab = static_cast<size_t>(model.spec.vocab_size);
  constexpr size_t kTokens = 8;
  std::vector<float> hidden(kTokens * static_cast<size_t>(model.spec.d_model));
  for (size_t i = 0; i < hidden.size(); ++i) hidden[i] = static_cast<float>(random_uniform(1, 2, i)) * 4.0F - 2.0F;
  std::vector<float> d_hidden(hidden.size());
  // Sums of squares of the gradients by the logits of every fourth word, and of all.
  struct Squares {
    double some = 0.0, all = 0.0;
  };
  Squares sketched, sampled;
  const auto add_to = [&](Squares& sums) {
    return [&](int64_t /*first*/, int64_t n, const float* d_logits) {
      for (size_t t = 0; t < static_cast<size_t>(n); ++t) {
        double total = 0.0;
        for (size_t v = 0; v < vocab; ++v) {
          const auto d = static_cast<double>(d_logits[t * vocab + v]);
          total += d;
          sums.all += d * d;
          if (v % 4 == 1) sums.some += d * d;
        }
        EXPECT_NEAR(total, 0.0, 1e-4);
      }
    };
  };
  constexpr uint64_t kRepeats = 2000;
  for (uint64_t i = 0; i < kRepeats; ++i) {
    loss.sketched(reader, hidden.data(), kTokens, 7, i * kTokens, d_hidden.data(), add_to(sketched));
    std::vector<double> draws(kTokens);
    for (size_t t = 0; t < kTokens; ++t) draws[t] = random_uniform(3, i, t);
    loss.sampled(reader, hidden.data(), draws, 1.0, d_hidden.data(), nullptr, add_to(sampled));
  }
  EXPECT_NEAR(sketched.all / sampled.all, 1.0, 0.02);
  EXPECT_NEAR(sketched.some / sampled.some, 1.0, 0.05);
}

}  // namespace
}  // namespace mobilellm
