// Attention over the paged cache: the same bits for any number of threads, any split into slices, any company and any
// sharing of pages; and close to plain double arithmetic.
#include "backend/cpu/attention.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "base/random.h"

namespace mobilellm {
namespace {

constexpr int kHeads = 6;
constexpr int kKvHeads = 2;
constexpr int kHeadDim = 20;
constexpr int64_t kPositions = 2 * kSpanTokens + 200;

float number(uint64_t stream, int64_t i) {
  return static_cast<float>(2.0 * random_uniform(1, stream, static_cast<uint64_t>(i)) - 1.0);
}

ModelSpec two_layers(AttentionWindow window) {
  LayerSpec layer;
  layer.n_heads = kHeads;
  layer.n_kv_heads = kKvHeads;
  layer.head_dim = kHeadDim;
  ModelSpec spec;
  spec.layers = {layer, layer};
  spec.layers[1].window = window;
  return spec;
}

// A cache with sequences whose keys and values depend on (what, position) alone.
class Fixture {
 public:
  Fixture(const ModelSpec& spec, KvDtype dtype, int n_threads)
      : spec_(spec),
        kernels_(kernel_table(default_isa())),
        pool_(n_threads),
        cache_(spec_, dtype, kernels_),
        attention_(spec_, kernels_, pool_, cache_) {}

  // Pages for positions [0, n), the first ones taken from another sequence.
  std::vector<int32_t> add_sequence(uint64_t what, int64_t n, std::span<const int32_t> shared = {}) {
    std::vector<int32_t> pages(shared.begin(), shared.end());
    while (static_cast<int64_t>(pages.size()) * kPageTokens < n) {
      pages.push_back(n_pages_++);
      cache_.reserve_pages(n_pages_);
    }
    for (int64_t pos = static_cast<int64_t>(shared.size()) * kPageTokens; pos < n; ++pos) {
      for (int layer = 0; layer < 2; ++layer) {
        std::vector<float> key(static_cast<size_t>(kKvHeads * kHeadDim));
        std::vector<float> value(key.size());
        for (int i = 0; i < kKvHeads * kHeadDim; ++i) {
          key[static_cast<size_t>(i)] = key_at(what, layer, pos, i);
          value[static_cast<size_t>(i)] = value_at(what, layer, pos, i);
        }
        cache_.store(layer, pages[static_cast<size_t>(pos / kPageTokens)], static_cast<int>(pos % kPageTokens),
                     key.data(), value.data());
      }
    }
    return pages;
  }
  static float key_at(uint64_t what, int layer, int64_t pos, int i) {
    return number(100 * what + static_cast<uint64_t>(layer), pos * kKvHeads * kHeadDim + i);
  }
  static float value_at(uint64_t what, int layer, int64_t pos, int i) {
    return number(100 * what + 50 + static_cast<uint64_t>(layer), pos * kKvHeads * kHeadDim + i);
  }
  static float query_at(uint64_t what, int64_t pos, int i) {
    return number(100 * what + 99, pos * kHeads * kHeadDim + i);
  }

  struct Part {
    uint64_t what;
    std::span<const int32_t> pages;
    int64_t begin, end;  // Positions.
  };
  // Outputs of all parts, one after the other, [position][head][head_dim].
  std::vector<float> run(int layer, const std::vector<Part>& parts) {
    std::vector<SequenceSlice> slices(parts.size());
    std::vector<AttentionRow> rows;
    std::vector<float> q;
    for (size_t i = 0; i < parts.size(); ++i) {
      slices[i].pages = parts[i].pages;
      for (int64_t pos = parts[i].begin; pos < parts[i].end; ++pos) {
        rows.push_back({pos, &slices[i]});
        for (int d = 0; d < kHeads * kHeadDim; ++d) q.push_back(query_at(parts[i].what, pos, d));
      }
    }
    std::vector<float> out(q.size());
    attention_.plan(rows);
    attention_.run(layer, q.data(), out.data());
    return out;
  }
  KvCache& cache() { return cache_; }
  std::span<const Attention::RowRange> store_groups(std::span<const AttentionRow> rows) {
    attention_.plan(rows);
    return attention_.store_groups();
  }

 private:
  ModelSpec spec_;
  const KernelTable& kernels_;
  ThreadPool pool_;
  KvCache cache_;
  Attention attention_;
  int n_pages_ = 0;
};

const AttentionWindow kWindows[] = {{AttentionWindow::Kind::kSliding, 100},
                                    {AttentionWindow::Kind::kSliding, 600},
                                    {AttentionWindow::Kind::kChunked, 96}};
constexpr KvDtype kDtypes[] = {KvDtype::kF32, KvDtype::kF16, KvDtype::kI16, KvDtype::kQ8};

std::vector<float> slice_of(const std::vector<float>& out, int64_t begin, int64_t n) {
  const auto first = out.begin() + begin * kHeads * kHeadDim;
  return {first, first + n * kHeads * kHeadDim};
}

TEST(Attention, HasTheSameBitsInAnyChunkingAndOnAnyNumberOfThreads) {
  for (const KvDtype dtype : kDtypes) {
    for (const AttentionWindow& window : kWindows) {
      const ModelSpec spec = two_layers(window);
      Fixture one(spec, dtype, 1);
      Fixture three(spec, dtype, 3);
      const auto pages = one.add_sequence(1, kPositions);
      const auto same_pages = three.add_sequence(1, kPositions);
      for (int layer = 0; layer < 2; ++layer) {
        const auto expected = one.run(layer, {{1, pages, 0, kPositions}});
        EXPECT_EQ(three.run(layer, {{1, same_pages, 0, kPositions}}), expected);
        for (const int64_t chunk : {1, 7, 70, 300}) {
          for (int64_t begin = 0; begin < kPositions; begin += chunk == 1 ? 41 : chunk) {
            const int64_t n = std::min(chunk, kPositions - begin);
            ASSERT_EQ(three.run(layer, {{1, same_pages, begin, begin + n}}), slice_of(expected, begin, n))
                << "layer " << layer << ", position " << begin << ", chunk " << chunk;
          }
        }
      }
    }
  }
}

TEST(Attention, HasTheSameBitsWithSharedPagesAsWithOwnOnes) {
  const ModelSpec spec = two_layers(kWindows[1]);
  for (const int n_threads : {1, 3}) {
    Fixture fixture(spec, KvDtype::kF16, n_threads);
    const int64_t n_shared = kSpanTokens + 2 * kPageTokens;
    const auto prompt = fixture.add_sequence(1, kPositions);
    const std::span<const int32_t> shared = std::span(prompt).first(static_cast<size_t>(n_shared / kPageTokens));
    constexpr uint64_t kSequences = 40;
    std::vector<std::vector<int32_t>> pages;
    std::vector<Fixture::Part> parts;
    for (uint64_t i = 0; i < kSequences; ++i) {
      // Some end inside the shared pages, some a little and some far behind them; one shares nothing.
      const int64_t n =
          i % 5 == 4 ? n_shared - 3 * static_cast<int64_t>(i) : n_shared + 9 * static_cast<int64_t>(i) + 1;
      pages.push_back(fixture.add_sequence(10 + i, n, i == 7 ? std::span<const int32_t>{} : shared));
      parts.push_back({10 + i, pages.back(), n - (i == 3 ? 5 : 1), n});
    }
    for (int layer = 0; layer < 2; ++layer) {
      const auto together = fixture.run(layer, parts);
      int64_t row = 0;
      for (const Fixture::Part& part : parts) {
        const int64_t n = part.end - part.begin;
        EXPECT_EQ(fixture.run(layer, {part}), slice_of(together, row, n)) << part.what;
        row += n;
      }
      // With a prompt in the same batch.
      auto mixed = parts;
      mixed.insert(mixed.begin() + 3, {1, prompt, 30, 130});
      const auto with_prompt = fixture.run(layer, mixed);
      EXPECT_EQ(slice_of(with_prompt, 3, 100), fixture.run(layer, {{1, prompt, 30, 130}}));
    }
  }
}

TEST(Attention, NeedsNoPagesBehindAWindow) {
  const AttentionWindow window = kWindows[1];
  const ModelSpec spec = two_layers(window);
  Fixture fixture(spec, KvDtype::kQ8, 2);
  const auto pages = fixture.add_sequence(1, kPositions);
  const int64_t begin = kPositions - 40;
  const auto n_behind = static_cast<size_t>(window.first_visible(begin) / kPageTokens);
  ASSERT_GT(n_behind, 5U);
  std::vector<float> expected[2];
  for (int layer = 0; layer < 2; ++layer) expected[layer] = fixture.run(layer, {{1, pages, begin, kPositions}});
  for (size_t i = 0; i < n_behind; ++i) fixture.cache().forget_window(pages[i]);
  for (int layer = 0; layer < 2; ++layer) {
    EXPECT_EQ(fixture.run(layer, {{1, pages, begin, kPositions}}), expected[layer]);
    const auto page_of = [&](size_t i) {
      return fixture.cache().head(layer, 0) + pages[i] * fixture.cache().page_bytes(layer);
    };
    const auto is_zero = [&](size_t i) {
      const std::byte* page = page_of(i);
      return std::all_of(page, page + fixture.cache().layout(layer).bytes,
                         [](std::byte b) { return b == std::byte{}; });
    };
    EXPECT_EQ(is_zero(3), layer == 1);
    EXPECT_FALSE(is_zero(n_behind));
  }
}

TEST(Attention, IsSoftmaxOfTheVisiblePositions) {
  for (const AttentionWindow& window : kWindows) {
    const ModelSpec spec = two_layers(window);
    Fixture fixture(spec, KvDtype::kF32, 2);
    const auto pages = fixture.add_sequence(1, kPositions);
    for (int layer = 0; layer < 2; ++layer) {
      const auto out = fixture.run(layer, {{1, pages, 0, kPositions}});
      for (const int64_t pos : {int64_t{0}, int64_t{63}, int64_t{300}, int64_t{kSpanTokens}, kPositions - 1}) {
        const int64_t first = layer == 0 ? 0 : window.first_visible(pos);
        for (int head = 0; head < kHeads; ++head) {
          const int kv = head / (kHeads / kKvHeads) * kHeadDim;
          double sum = 0;
          std::vector<double> values(kHeadDim);
          for (int64_t j = first; j <= pos; ++j) {
            double score = 0;
            for (int d = 0; d < kHeadDim; ++d) {
              score += static_cast<double>(Fixture::query_at(1, pos, head * kHeadDim + d)) *
                       static_cast<double>(Fixture::key_at(1, layer, j, kv + d));
            }
            sum += std::exp(score);
            for (int d = 0; d < kHeadDim; ++d)
              values[static_cast<size_t>(d)] +=
                  std::exp(score) * static_cast<double>(Fixture::value_at(1, layer, j, kv + d));
          }
          for (int d = 0; d < kHeadDim; ++d) {
            ASSERT_NEAR(static_cast<double>(out[static_cast<size_t>((pos * kHeads + head) * kHeadDim + d)]),
                        values[static_cast<size_t>(d)] / sum, 3e-6);
          }
        }
      }
    }
  }
}

TEST(Attention, StoreGroupsNeverShareACacheLineOfKeys) {
  const ModelSpec spec = two_layers(kWindows[0]);
  Fixture fixture(spec, KvDtype::kF16, 1);
  const auto pages = fixture.add_sequence(1, 200);
  const SequenceSlice a{{}, 0, pages, 0};
  const SequenceSlice b{{}, 0, pages, 0};
  std::vector<AttentionRow> rows;
  for (int64_t pos = 20; pos < 150; ++pos) rows.push_back({pos, &a});
  rows.push_back({150, &b});
  size_t next = 0;
  for (const Attention::RowRange& group : fixture.store_groups(rows)) {
    EXPECT_EQ(group.begin, next);
    next = group.end;
    EXPECT_EQ(rows[group.begin].pos / 32, rows[group.end - 1].pos / 32);
  }
  EXPECT_EQ(next, rows.size());
}

}  // namespace
}  // namespace mobilellm
