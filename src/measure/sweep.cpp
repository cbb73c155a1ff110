// Pages, slices and clocks of the speed tests.
#include "measure/sweep.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "base/error.h"
#include "base/random.h"

namespace mobilellm {
namespace {

constexpr int kRealTokens = 512;  // Of the earlier positions; the rest are copies.

int pages_of(int n_tokens, int page_tokens) { return (n_tokens + page_tokens - 1) / page_tokens; }

// Earlier tokens in pages that the test shares instead of owning.
int chain_tokens(const SweepTest& test) { return test.n_sequences > 1 ? test.shared_prompt : test.depth; }
// Tokens that each sequence holds in pages of its own, those of the test among them.
int own_tokens(const SweepTest& test) { return (test.n_sequences > 1 ? test.depth : 0) + test.n_tokens; }

std::vector<int32_t> random_tokens(int n, int vocab_size, uint64_t seed, uint64_t stream) {
  std::vector<int32_t> tokens(static_cast<size_t>(n));
  for (size_t i = 0; i < tokens.size(); ++i) {
    tokens[i] = static_cast<int32_t>(random_bits(seed, stream, i) % static_cast<uint64_t>(vocab_size));
  }
  return tokens;
}

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

int64_t values(const StoredMatrix& matrix) { return matrix.rows * matrix.cols; }

}  // namespace

std::string SweepTest::name() const {
  std::string text = fmt::format("{}{}", is_prefill ? "pp" : "tg", n_tokens);
  if (n_sequences > 1) text += fmt::format("x{}", n_sequences);
  if (depth > 0) text += fmt::format("@{}", depth);
  return text;
}

ModelCost model_cost(const ModelWeights& weights) {
  ModelCost cost;
  for (const LayerWeights& layer : weights.layers) {
    for (const LinearWeights* linear : {&layer.q_proj, &layer.k_proj, &layer.v_proj, &layer.o_proj, &layer.gate_proj,
                                        &layer.up_proj, &layer.down_proj, &layer.plain_up, &layer.plain_down}) {
      cost.block_parameters += values(linear->matrix);
      cost.weight_bytes += static_cast<int64_t>(stored_bytes(linear->matrix));
    }
  }
  const StoredMatrix& head = weights.lm_head.rows > 0 ? weights.lm_head : weights.embed_tokens;
  cost.head_parameters = values(head);
  cost.weight_bytes += static_cast<int64_t>(stored_bytes(head));
  return cost;
}

SweepCost sweep_cost(const SweepTest& test, const ModelCost& model, const ModelSpec& spec, size_t kv_bytes_per_token,
                     int page_tokens) {
  double kv_values = 0;  // Per token, all layers.
  for (const LayerSpec& layer : spec.layers) kv_values += 2.0 * layer.n_kv_heads * layer.head_dim;
  const double bytes_per_value = static_cast<double>(kv_bytes_per_token) / kv_values;
  const int64_t shared = test.n_sequences > 1 ? test.shared_prompt / page_tokens * page_tokens : 0;
  const int64_t start = int64_t{chain_tokens(test)} + (test.n_sequences > 1 ? test.depth : 0);
  const auto n_sequences = static_cast<double>(test.n_sequences);

  SweepCost cost;
  const int n_passes = test.is_prefill ? 1 : test.n_tokens;
  cost.weight_bytes = static_cast<double>(model.weight_bytes) * n_passes;
  cost.operations = 2.0 * static_cast<double>(model.block_parameters) * static_cast<double>(test.total_tokens()) +
                    2.0 * static_cast<double>(model.head_parameters) * n_passes * n_sequences;
  for (const LayerSpec& layer : spec.layers) {
    const double layer_bytes = 2.0 * layer.n_kv_heads * layer.head_dim * bytes_per_value;
    for (int i = 0; i < test.n_tokens; ++i) {
      const int64_t pos = start + i;
      const int64_t first = layer.window.first_visible(pos);
      const auto visible = static_cast<double>(pos + 1 - first);
      cost.operations += 4.0 * layer.n_heads * layer.head_dim * visible * n_sequences;
      if (test.is_prefill) continue;
      const auto visible_shared = static_cast<double>(std::max<int64_t>(0, shared - first));
      cost.kv_bytes += layer_bytes * (visible_shared + n_sequences * (visible - visible_shared));
    }
    if (test.is_prefill) {
      cost.kv_bytes += layer_bytes * static_cast<double>(start + test.n_tokens - layer.window.first_visible(start));
    }
  }
  return cost;
}

Sweep::Sweep(Runner& runner, std::vector<SweepTest> tests, uint64_t seed)
    : runner_(runner), tests_(std::move(tests)), seed_(seed), page_tokens_(runner.page_tokens()) {
  int own_pages = 0;
  int max_sequences = 1;
  for (const SweepTest& test : tests_) {
    chain_pages_ = std::max(chain_pages_, pages_of(chain_tokens(test), page_tokens_));
    // One page more: the last page of the chain is copied when it is not full.
    own_pages = std::max(own_pages, test.n_sequences * (pages_of(own_tokens(test), page_tokens_) + 1));
    max_sequences = std::max(max_sequences, test.n_sequences);
  }
  // At least one page to copy from.
  const int real_pages = std::min(std::max(chain_pages_, 1), pages_of(kRealTokens, page_tokens_));
  chain_pages_ = std::max(chain_pages_, real_pages);
  const int n_pages = chain_pages_ + own_pages;
  runner_.reserve_pages(n_pages);
  logits_.resize(static_cast<size_t>(max_sequences) * static_cast<size_t>(runner_.spec().vocab_size));

  const std::vector<int32_t> tokens = random_tokens(real_pages * page_tokens_, runner_.spec().vocab_size, seed_, 0);
  const std::vector<int32_t> pages = chain(real_pages * page_tokens_);
  const SequenceSlice slice{tokens, 0, pages, 0};
  runner_.forward({&slice, 1}, logits_.data());
  for (int page = real_pages; page < n_pages; ++page) runner_.copy_page(page % real_pages, page);
}

std::vector<int32_t> Sweep::chain(int n_tokens) const {
  std::vector<int32_t> pages(static_cast<size_t>(pages_of(n_tokens, page_tokens_)));
  for (size_t i = 0; i < pages.size(); ++i) pages[i] = static_cast<int32_t>(i);
  return pages;
}

double Sweep::run(const SweepTest& test, int max_tokens) {
  const int n_tokens = std::min(test.n_tokens, max_tokens);
  return test.is_prefill ? run_prefill(test, n_tokens) : run_decode(test, n_tokens);
}

double Sweep::run_prefill(const SweepTest& test, int n_tokens) {
  const std::vector<int32_t> tokens = random_tokens(n_tokens, runner_.spec().vocab_size, seed_, 1);
  std::vector<int32_t> pages = chain(test.depth / page_tokens_ * page_tokens_);
  int32_t next = chain_pages_;
  if (test.depth % page_tokens_ != 0) runner_.copy_page(test.depth / page_tokens_, next);
  while (static_cast<int>(pages.size()) * page_tokens_ < test.depth + n_tokens) pages.push_back(next++);
  const SequenceSlice slice{tokens, test.depth, pages, 1};
  const auto start = std::chrono::steady_clock::now();
  runner_.forward({&slice, 1}, logits_.data());
  return seconds_since(start);
}

double Sweep::run_decode(const SweepTest& test, int n_tokens) {
  const auto n_sequences = static_cast<size_t>(test.n_sequences);
  const int before = chain_tokens(test);
  const int start_pos = before + own_tokens(test) - test.n_tokens;
  std::vector<std::vector<int32_t>> pages(n_sequences);
  int32_t next = chain_pages_;
  for (std::vector<int32_t>& own : pages) {
    own = chain(before / page_tokens_ * page_tokens_);
    if (before % page_tokens_ != 0) runner_.copy_page(before / page_tokens_, next);
    while (static_cast<int>(own.size()) * page_tokens_ < start_pos + n_tokens) own.push_back(next++);
  }
  const std::vector<int32_t> tokens = random_tokens(n_tokens * test.n_sequences, runner_.spec().vocab_size, seed_, 2);
  std::vector<SequenceSlice> batch(n_sequences);
  const auto start = std::chrono::steady_clock::now();
  for (int step = 0; step < n_tokens; ++step) {
    for (size_t i = 0; i < n_sequences; ++i) {
      const size_t at = static_cast<size_t>(step) * n_sequences + i;
      batch[i] = {std::span(tokens).subspan(at, 1), start_pos + step, pages[i], 1};
    }
    runner_.forward(batch, logits_.data());
  }
  return seconds_since(start);
}

}  // namespace mobilellm
