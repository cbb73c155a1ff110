// Divergence of predictions, measured through the runner.
#include "quant/loss_meter.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>

#include "backend/registry.h"
#include "base/error.h"
#include "base/thread_pool.h"

namespace mobilellm {
namespace {

// Tokens whose logits are computed at once.
constexpr int64_t kBatchTokens = 256;
constexpr int64_t kLanes = 16;

// e^x with a relative error of 2e-7, x in [-87, 87]; in a form that compilers turn into vector code.
inline float quick_exp(float x) {
  constexpr float kShift = 12582912.0F;  // 1.5 * 2^23: its unit is 1.
  const float limited = std::clamp(x, -87.0F, 87.0F);
  const float n = (limited * 1.44269504F + kShift) - kShift;
  const float r = (limited - n * 0.693359375F) + n * 2.12194440e-4F;
  float p = 1.9875691500e-4F;
  p = p * r + 1.3981999507e-3F;
  p = p * r + 8.3334519073e-3F;
  p = p * r + 4.1665795894e-2F;
  p = p * r + 1.6666665459e-1F;
  p = p * r + 5.0000001201e-1F;
  p = p * r * r + r + 1.0F;
  return p * std::bit_cast<float>((static_cast<int32_t>(n) + 127) << 23);
}

float log_sum(const float* logits, int64_t n) {
  const float top = *std::max_element(logits, logits + n);
  float lanes[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (int64_t k = 0; k < kLanes; ++k) lanes[k] += quick_exp(logits[i + k] - top);
  }
  double sum = 0.0;
  for (const float lane : lanes) sum += static_cast<double>(lane);
  for (; i < n; ++i) sum += static_cast<double>(quick_exp(logits[i] - top));
  return top + static_cast<float>(std::log(sum));
}

// KL(p || q) from p's logits with the log of their sum, and q's: log of the mean of e^d under p, less the mean of d, d
// the change of logits. Dividing by the sum of p takes its rounding out.
double divergence(const float* p_logits, float p_log_sum, const float* q_logits, int64_t n) {
  // The change of the most likely token is taken off all, so that e^d stays in range.
  const int64_t top = std::max_element(p_logits, p_logits + n) - p_logits;
  const float offset = q_logits[top] - p_logits[top];
  float p_lanes[kLanes] = {};
  float d_lanes[kLanes] = {};
  float exp_lanes[kLanes] = {};
  const auto add = [&](int64_t i, int64_t k) {
    const float p = quick_exp(p_logits[i] - p_log_sum);
    const float d = q_logits[i] - p_logits[i] - offset;
    p_lanes[k] += p;
    d_lanes[k] += p * d;
    exp_lanes[k] += p * quick_exp(d);
  };
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (int64_t k = 0; k < kLanes; ++k) add(i + k, k);
  }
  for (; i < n; ++i) add(i, 0);
  double p = 0.0, d = 0.0, e = 0.0;
  for (int64_t k = 0; k < kLanes; ++k) {
    p += static_cast<double>(p_lanes[k]);
    d += static_cast<double>(d_lanes[k]);
    e += static_cast<double>(exp_lanes[k]);
  }
  return std::max(0.0, std::log(e / p) - d / p);
}

}  // namespace

LossMeter::LossMeter(const ModelSpec& spec, const ModelWeights& weights, std::span<const std::vector<int32_t>> chunks,
                     ThreadPool& pool)
    : spec_(spec),
      weights_(weights),
      chunks_(chunks),
      pool_(pool),
      text_(spec, weights, chunks, pool.n_threads()),
      reference_(static_cast<size_t>(text_.n_tokens() * spec.vocab_size)),
      log_sums_(static_cast<size_t>(text_.n_tokens())) {
  MOBILELLM_CHECK(text_.n_tokens() > 0);
  for_logits(take_layers(spec_, weights_, 0, spec_.n_layers(), text_.hidden(), true),
             [&](int64_t first, int64_t n, const float* logits) {
               const int64_t vocab = spec_.vocab_size;
               std::copy_n(logits, n * vocab, reference_.data() + first * vocab);
               pool_.run(n, [&](int64_t i, int /*worker*/) {
                 log_sums_[static_cast<size_t>(first + i)] = log_sum(logits + i * vocab, vocab);
               });
             });
}

double LossMeter::measure(TensorRole role, int layer, const StoredMatrix& replacement) {
  if (layer < 0) {
    ModelWeights weights = weights_;
    replaceable_matrix(weights, role, layer) = replacement;
    const TextInLayers text(spec_, weights, chunks_, pool_.n_threads());
    return mean_divergence(take_layers(spec_, weights, 0, spec_.n_layers(), text.hidden(), true));
  }
  MOBILELLM_CHECK(layer >= text_.layer());
  while (text_.layer() < layer) text_.advance({});
  ModelPart part = take_layers(spec_, weights_, layer, spec_.n_layers(), text_.hidden(), true);
  replaceable_matrix(part.weights, role, 0) = replacement;
  return mean_divergence(std::move(part));
}

double LossMeter::mean_divergence(ModelPart part) {
  std::vector<double> losses(log_sums_.size());
  for_logits(std::move(part), [&](int64_t first, int64_t n, const float* logits) {
    const int64_t vocab = spec_.vocab_size;
    pool_.run(n, [&](int64_t i, int /*worker*/) {
      const int64_t row = first + i;
      losses[static_cast<size_t>(row)] =
          divergence(reference_.data() + row * vocab, log_sums_[static_cast<size_t>(row)], logits + i * vocab, vocab);
    });
  });
  double sum = 0.0;
  for (const double loss : losses) sum += loss;
  const double mean = sum / static_cast<double>(losses.size());
  if (!std::isfinite(mean)) {
    fail(ErrorCode::kCorruptData, "[quant] calibration: got logits that are not finite; check the model with `verify`");
  }
  return mean;
}

// Calls visit(first row, number of rows, logits) for all rows in order.
template <typename Visit>
void LossMeter::for_logits(ModelPart part, Visit&& visit) {
  RunnerOptions options;
  options.n_threads = pool_.n_threads();
  options.is_exact = true;
  const std::unique_ptr<Runner> runner = create_runner("cpu", part.spec, std::move(part.weights), options);
  const auto page_tokens = static_cast<size_t>(runner->page_tokens());
  std::vector<int32_t> ids(log_sums_.size());
  std::iota(ids.begin(), ids.end(), 0);
  std::vector<float> logits;
  for (size_t begin = 0; begin < chunks_.size();) {
    size_t end = begin;
    size_t n_tokens = 0;
    size_t n_pages = 0;
    while (end < chunks_.size() && (end == begin || n_tokens + chunks_[end].size() <= kBatchTokens)) {
      n_tokens += chunks_[end].size();
      n_pages += (chunks_[end].size() + page_tokens - 1) / page_tokens;
      ++end;
    }
    std::vector<int32_t> pages(n_pages);
    std::iota(pages.begin(), pages.end(), 0);
    runner->reserve_pages(static_cast<int>(n_pages));
    std::span<const int32_t> free_pages = pages;
    std::span<const int32_t> free_ids = std::span(ids).subspan(static_cast<size_t>(text_.first_rows()[begin]));
    std::vector<SequenceSlice> batch;
    for (; begin < end; ++begin) {
      const size_t n = chunks_[begin].size();
      const size_t n_own = (n + page_tokens - 1) / page_tokens;
      batch.push_back({free_ids.first(n), 0, free_pages.first(n_own), static_cast<int>(n)});
      free_ids = free_ids.subspan(n);
      free_pages = free_pages.subspan(n_own);
    }
    logits.resize(n_tokens * static_cast<size_t>(spec_.vocab_size));
    runner->forward(batch, logits.data());
    visit(static_cast<int64_t>(batch.front().tokens.front()), static_cast<int64_t>(n_tokens), logits.data());
  }
}

}  // namespace mobilellm
