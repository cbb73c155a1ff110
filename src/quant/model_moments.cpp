// Collecting moments during forward passes.
#include "quant/model_moments.h"

#include <algorithm>
#include <numeric>

#include "base/error.h"

namespace mobilellm {

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

void ModelMoments::collect(Runner& runner, const std::vector<std::vector<int32_t>>& chunks, ThreadPool& pool,
                           const std::function<void(double)>& on_progress) {
  size_t longest = 0;
  for (const std::vector<int32_t>& chunk : chunks) longest = std::max(longest, chunk.size());
  const auto page_tokens = static_cast<size_t>(runner.page_tokens());
  std::vector<int32_t> pages((longest + page_tokens - 1) / page_tokens);
  std::iota(pages.begin(), pages.end(), 0);
  runner.reserve_pages(static_cast<int>(pages.size()));
  runner.set_input_observer([&](int layer, LinearInput input, const float* x, int64_t n_tokens) {
    InputMoments& moments = moments_.at({layer, input});
    moments.add(x, n_tokens, moments.cols(), pool);
  });
  for (size_t i = 0; i < chunks.size(); ++i) {
    if (on_progress) on_progress(static_cast<double>(i) / static_cast<double>(chunks.size()));
    if (chunks[i].empty()) continue;
    const SequenceSlice slice = {chunks[i], 0, pages, 0};
    runner.forward(std::span(&slice, 1), nullptr);
    n_tokens_ += static_cast<int64_t>(chunks[i].size());
  }
  runner.set_input_observer({});
}

const InputMoments& ModelMoments::of(TensorRole role, int layer) const {
  const LinearInput input = input_of(role);
  return moments_.at({input == LinearInput::kHead ? n_layers_ : layer, input});
}

}  // namespace mobilellm
