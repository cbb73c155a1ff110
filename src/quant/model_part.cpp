// Models cut into layers.
#include "quant/model_part.h"

#include <algorithm>
#include <numeric>

#include "backend/registry.h"
#include "base/error.h"

namespace mobilellm {
namespace {

StoredMatrix float_matrix(std::span<const float> values, int64_t cols) {
  TensorView view;
  view.name = "hidden states";
  view.shape = {static_cast<int64_t>(values.size()) / cols, cols};
  view.data = std::as_bytes(values);
  return make_matrix(view);
}

}  // namespace

StoredMatrix& replaceable_matrix(ModelWeights& weights, TensorRole role, int layer) {
  return const_cast<StoredMatrix&>(matrix_of(weights, role, layer));
}

ModelPart take_layers(const ModelSpec& spec, const ModelWeights& weights, int begin, int end,
                      std::span<const float> hidden, bool has_head) {
  ModelPart part;
  part.spec = spec;
  part.spec.layers.assign(spec.layers.begin() + begin, spec.layers.begin() + end);
  part.spec.embedding_scale = 1.0F;
  part.weights.final_norm = weights.final_norm;
  part.weights.source = weights.source;
  part.weights.layers.assign(weights.layers.begin() + begin, weights.layers.begin() + end);
  part.weights.embed_tokens = float_matrix(hidden, spec.d_model);
  if (has_head) {
    MOBILELLM_CHECK(part.weights.embed_tokens.rows <= spec.vocab_size);
    part.weights.lm_head = spec.is_output_tied ? weights.embed_tokens : weights.lm_head;
    part.spec.is_output_tied = false;
  } else {
    part.spec.vocab_size = static_cast<int>(part.weights.embed_tokens.rows);
    part.spec.is_output_tied = true;
  }
  return part;
}

TextInLayers::TextInLayers(const ModelSpec& spec, const ModelWeights& weights,
                           std::span<const std::vector<int32_t>> chunks, int n_threads)
    : spec_(spec), weights_(weights), n_threads_(n_threads), first_rows_{0} {
  for (const std::vector<int32_t>& chunk : chunks) {
    first_rows_.push_back(first_rows_.back() + static_cast<int64_t>(chunk.size()));
  }
  hidden_.resize(static_cast<size_t>(first_rows_.back() * spec.d_model));
  float* row = hidden_.data();
  for (const std::vector<int32_t>& chunk : chunks) {
    for (const int32_t id : chunk) {
      if (id < 0 || id >= spec.vocab_size) {
        fail(ErrorCode::kInvalidArgument, "[quant] token id {} is outside the vocabulary of {}", id, spec.vocab_size);
      }
      weights.embed_tokens.codec->decode_rows(weights.embed_tokens, id, id + 1, row);
      for (int64_t d = 0; d < spec.d_model; ++d) row[d] *= spec.embedding_scale;
      row += spec.d_model;
    }
  }
}

int64_t TextInLayers::n_tokens() const { return first_rows_.back(); }

void TextInLayers::advance(const Runner::InputObserver& observer, const std::function<void(size_t chunk)>& on_chunk) {
  MOBILELLM_CHECK(layer_ < spec_.n_layers());
  ModelPart part = take_layers(spec_, weights_, layer_, layer_ + 1, hidden_, false);
  RunnerOptions options;
  options.n_threads = n_threads_;
  options.is_exact = true;
  const std::unique_ptr<Runner> runner = create_runner("cpu", part.spec, std::move(part.weights), options);
  if (observer) {
    runner->set_input_observer([&](int /*layer*/, LinearInput input, const float* x, int64_t n) {
      if (input != LinearInput::kHead) {
        observer(layer_, input, x, n);
      } else if (layer_ + 1 == spec_.n_layers()) {
        observer(spec_.n_layers(), input, x, n);
      }
    });
  }
  // Rows are read as embeddings before any of them is replaced: the new ones may take their place.
  float* next = hidden_.data();
  runner->set_hidden_observer([&](int index, std::span<const float> hidden) {
    if (index == 1) next = std::copy(hidden.begin(), hidden.end(), next);
  });
  int64_t longest = 1;
  for (size_t i = 1; i < first_rows_.size(); ++i) longest = std::max(longest, first_rows_[i] - first_rows_[i - 1]);
  std::vector<int32_t> pages(static_cast<size_t>((longest - 1) / runner->page_tokens() + 1));
  std::iota(pages.begin(), pages.end(), 0);
  runner->reserve_pages(static_cast<int>(pages.size()));
  std::vector<int32_t> rows(static_cast<size_t>(longest));
  for (size_t i = 0; i + 1 < first_rows_.size(); ++i) {
    if (on_chunk) on_chunk(i);
    const auto n = static_cast<size_t>(first_rows_[i + 1] - first_rows_[i]);
    if (n == 0) continue;
    std::iota(rows.begin(), rows.begin() + static_cast<std::ptrdiff_t>(n), static_cast<int32_t>(first_rows_[i]));
    const SequenceSlice slice = {std::span(rows).first(n), 0, pages, 0};
    runner->forward(std::span(&slice, 1), nullptr);
  }
  ++layer_;
}

}  // namespace mobilellm
