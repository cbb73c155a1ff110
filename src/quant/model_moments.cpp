// Collecting moments during forward passes.
#include "quant/model_moments.h"

#include "backprop/decoder.h"
#include "base/error.h"
#include "base/thread_pool.h"

namespace mobilellm {
namespace {

// Tokens of a pass: enough that decoding the weights takes little beside the products.
constexpr size_t kBatchTokens = 2048;

}  // namespace

LinearInput input_of(TensorRole role) {
  switch (role) {
    case TensorRole::kQProj:
    case TensorRole::kKProj:
    case TensorRole::kVProj:
      return LinearInput::kAttention;
    case TensorRole::kOProj:
      return LinearInput::kAttentionOutput;
    case TensorRole::kGateProj:
    case TensorRole::kUpProj:
    case TensorRole::kPlainUp:
      return LinearInput::kMlp;
    case TensorRole::kDownProj:
      return LinearInput::kMlpDown;
    case TensorRole::kPlainDown:
      return LinearInput::kPlainDown;
    case TensorRole::kEmbedTokens:
    case TensorRole::kLmHead:
      return LinearInput::kHead;
    default:
      fail(ErrorCode::kInternal, "[quant] role {} reads no input", static_cast<int>(role));
  }
}

ModelMoments::ModelMoments(const ModelSpec& spec, bool is_full) : n_layers_(spec.n_layers()) {
  const auto add = [&](int layer, LinearInput input, int64_t width) {
    if (width > 0) moments_.emplace(std::pair(layer, input), InputMoments(width, is_full));
  };
  for (int i = 0; i < n_layers_; ++i) {
    const LayerSpec& layer = spec.layers[static_cast<size_t>(i)];
    add(i, LinearInput::kAttention, spec.d_model);
    add(i, LinearInput::kAttentionOutput, int64_t{layer.n_heads} * layer.head_dim);
    add(i, LinearInput::kMlp, spec.d_model);
    add(i, LinearInput::kMlpDown, layer.d_ff);
    add(i, LinearInput::kPlainDown, layer.d_ff_plain);
  }
  add(n_layers_, LinearInput::kHead, spec.d_model);
}

void ModelMoments::collect(const ModelSpec& spec, const ModelWeights& weights,
                           const std::vector<std::vector<int32_t>>& chunks, ThreadPool& pool,
                           const std::function<void(double)>& on_progress) {
  ModelWeightReader reader(weights, pool);
  Decoder decoder(spec, false, pool);
  double n_all = 0.0;
  for (const std::vector<int32_t>& chunk : chunks) n_all += static_cast<double>(chunk.size());
  std::vector<int32_t> tokens;
  const auto add = [&](LinearInput input, int layer, const float* x, int64_t n_tokens) {
    InputMoments& moments = moments_.at({layer, input});
    moments.add(x, n_tokens, moments.cols(), pool);
  };
  decoder.set_input_observer([&](TensorRole role, int layer, const float* x, int64_t n_tokens, int64_t /*width*/) {
    if (role == TensorRole::kQProj && on_progress) {
      const double passed = static_cast<double>(layer) / static_cast<double>(n_layers_);
      on_progress((static_cast<double>(n_tokens_) + passed * static_cast<double>(n_tokens)) / n_all);
    }
    // Of the matrices that read one input, one tells of it.
    if (role == TensorRole::kKProj || role == TensorRole::kVProj || role == TensorRole::kUpProj ||
        role == TensorRole::kPlainUp) {
      return;
    }
    add(input_of(role), layer, x, n_tokens);
  });
  std::vector<int64_t> lengths;
  std::vector<float> hidden;
  for (size_t i = 0; i < chunks.size(); ++i) {
    if (!chunks[i].empty()) lengths.push_back(static_cast<int64_t>(chunks[i].size()));
    tokens.insert(tokens.end(), chunks[i].begin(), chunks[i].end());
    if (tokens.empty() || (tokens.size() < kBatchTokens && i + 1 < chunks.size())) continue;
    hidden.resize(tokens.size() * static_cast<size_t>(spec.d_model));
    decoder.forward(reader, {tokens, lengths}, false, hidden.data());
    add(LinearInput::kHead, n_layers_, hidden.data(), static_cast<int64_t>(tokens.size()));
    n_tokens_ += static_cast<int64_t>(tokens.size());
    tokens.clear();
    lengths.clear();
  }
}

const InputMoments& ModelMoments::of(TensorRole role, int layer) const {
  const LinearInput input = input_of(role);
  return moments_.at({input == LinearInput::kHead ? n_layers_ : layer, input});
}

}  // namespace mobilellm
