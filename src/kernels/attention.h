// Attention over pages with a running maximum; included by each ISA file after elementwise.h.
//
// Every query walks its pages in rising order and, inside a page, its positions in rising order, whatever other queries
// share the call. Lanes are positions for the scores and value channels for the weighted sum, so nothing is summed
// across lanes but the softmax denominator, by the fixed tree.
#include "kernels/kernels.h"

namespace {

using mobilellm::AttentionArgs;
using mobilellm::kMaxQueries;
using mobilellm::kPageTokens;

constexpr int kPageVectors = kPageTokens / 16;

// scores[q][64] = queries[q] . keys for kQueries queries and kVectors vectors of positions.
template <int kQueries, int kVectors>
void score_tile(const float* queries, int head_dim, const float* keys, float* scores) {
  Vec16 acc[kQueries][kVectors];
#pragma GCC unroll 8
  for (int q = 0; q < kQueries; ++q) {
#pragma GCC unroll 4
    for (int p = 0; p < kVectors; ++p) acc[q][p] = Vec16::zero();
  }
  for (int d = 0; d < head_dim; ++d) {
    Vec16 key[kVectors];
#pragma GCC unroll 4
    for (int p = 0; p < kVectors; ++p) key[p] = Vec16::load(keys + d * kPageTokens + 16 * p);
#pragma GCC unroll 8
    for (int q = 0; q < kQueries; ++q) {
      const Vec16 query = Vec16::set1(queries[q * head_dim + d]);
#pragma GCC unroll 4
      for (int p = 0; p < kVectors; ++p) acc[q][p] = Vec16::fma(query, key[p], acc[q][p]);
    }
  }
#pragma GCC unroll 8
  for (int q = 0; q < kQueries; ++q) {
#pragma GCC unroll 4
    for (int p = 0; p < kVectors; ++p) acc[q][p].store(scores + q * kPageTokens + 16 * p);
  }
}

template <int kQueries>
void score_page(const AttentionArgs& a, int query, const float* keys, float* scores) {
  constexpr int kVectors = Vec16::kPositionVectors;
  for (int p = 0; p < kPageVectors; p += kVectors) {
    score_tile<kQueries, kVectors>(a.queries + query * a.head_dim, a.head_dim, keys + 16 * p,
                                   scores + query * kPageTokens + 16 * p);
  }
}

// out[q] = out[q] * rescale[q] + sum over positions [lo, hi) of weights[q][pos] * values[pos]
template <int kQueries, int kVectors>
void value_tile(const float* weights, const float* rescale, const float* values, int value_stride, int lo, int hi,
                float* out) {
  Vec16 acc[kQueries][kVectors];
#pragma GCC unroll 8
  for (int q = 0; q < kQueries; ++q) {
    const Vec16 scale = Vec16::set1(rescale[q]);
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) acc[q][v] = Vec16::load(out + q * value_stride + 16 * v) * scale;
  }
  for (int pos = lo; pos < hi; ++pos) {
    Vec16 value[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) value[v] = Vec16::load(values + pos * value_stride + 16 * v);
#pragma GCC unroll 8
    for (int q = 0; q < kQueries; ++q) {
      const Vec16 weight = Vec16::set1(weights[q * kPageTokens + pos]);
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) acc[q][v] = Vec16::fma(weight, value[v], acc[q][v]);
    }
  }
#pragma GCC unroll 8
  for (int q = 0; q < kQueries; ++q) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) acc[q][v].store(out + q * value_stride + 16 * v);
  }
}

template <int kQueries>
void value_page(const AttentionArgs& a, int query, const float* weights, const float* rescale, const float* values,
                int lo, int hi) {
  constexpr int kVectors = Vec16::kPositionVectors;
  const int n_vectors = a.value_stride / 16;
  int v = 0;
  const float* w = weights + query * kPageTokens;
  float* out = a.out + query * a.value_stride;
  for (; v + kVectors <= n_vectors; v += kVectors) {
    value_tile<kQueries, kVectors>(w, rescale + query, values + 16 * v, a.value_stride, lo, hi, out + 16 * v);
  }
  for (; v < n_vectors; ++v)
    value_tile<kQueries, 1>(w, rescale + query, values + 16 * v, a.value_stride, lo, hi, out + 16 * v);
}

struct SoftmaxState {
  float maximum;
  float sum;
};

// Turns the scores of positions [lo, hi) into weights (0 elsewhere), updates the state, returns the factor for what
// came before.
inline float softmax_page(float* scores, int lo, int hi, SoftmaxState& state) {
  const Vec16 minus_infinity = Vec16::set1(-__builtin_inff());
  Vec16 s[kPageVectors];
  Vec16 maximum = minus_infinity;
  for (int p = 0; p < kPageVectors; ++p) {
    const int first = lo - 16 * p < 0 ? 0 : (lo - 16 * p > 16 ? 16 : lo - 16 * p);
    const int last = hi - 16 * p < 0 ? 0 : (hi - 16 * p > 16 ? 16 : hi - 16 * p);
    s[p] = Vec16::select_range(first, last, Vec16::load(scores + 16 * p), minus_infinity);
    maximum = Vec16::max(maximum, s[p]);
  }
  const float page_maximum = maximum.reduce_max();
  const float new_maximum = page_maximum > state.maximum ? page_maximum : state.maximum;
  const Vec16 shift = Vec16::set1(new_maximum);
  Vec16 sum = Vec16::zero();
  for (int p = 0; p < kPageVectors; ++p) {
    const Vec16 e = exp16(s[p] - shift);
    e.store(scores + 16 * p);
    sum = sum + e;
  }
  const float rescale = exp_scalar(state.maximum - new_maximum);
  state.maximum = new_maximum;
  state.sum = fma_scalar(state.sum, rescale, sum.reduce_add());
  return rescale;
}

void attend(const AttentionArgs& a) noexcept {
  alignas(64) float scores[kMaxQueries * kPageTokens];
  float rescale[kMaxQueries];
  int lo[kMaxQueries];
  int hi[kMaxQueries];
  SoftmaxState state[kMaxQueries];
  int64_t begin = a.first[0];
  int64_t end = a.last[0];
  for (int q = 0; q < a.n_queries; ++q) {
    state[q] = {-__builtin_inff(), 0.0F};
    begin = a.first[q] < begin ? a.first[q] : begin;
    end = a.last[q] > end ? a.last[q] : end;
    for (int i = 0; i < a.value_stride; ++i) a.out[q * a.value_stride + i] = 0.0F;
  }
  constexpr int kTile = Vec16::kQueryTile;
  for (int64_t page = begin / kPageTokens; page * kPageTokens < end; ++page) {
    const int64_t base = page * kPageTokens;
    const float* keys = a.keys + a.pages[page] * a.page_stride;
    const float* values = a.values + a.pages[page] * a.page_stride;
    int query = 0;
    for (; query + kTile <= a.n_queries; query += kTile) score_page<kTile>(a, query, keys, scores);
    for (; query < a.n_queries; ++query) score_page<1>(a, query, keys, scores);
    for (int q = 0; q < a.n_queries; ++q) {
      const int64_t from = a.first[q] - base;
      const int64_t to = a.last[q] - base;
      lo[q] = from < 0 ? 0 : static_cast<int>(from > kPageTokens ? kPageTokens : from);
      hi[q] = to < 0 ? 0 : static_cast<int>(to > kPageTokens ? kPageTokens : to);
      if (lo[q] < hi[q]) rescale[q] = softmax_page(scores + q * kPageTokens, lo[q], hi[q], state[q]);
    }
    for (query = 0; query < a.n_queries;) {
      // Queries with the same range go together; where ranges differ (the diagonal) each goes alone, so that a masked
      // position adds nothing at all, not even zero times an infinity.
      bool is_same = query + kTile <= a.n_queries;
      for (int i = 1; is_same && i < kTile; ++i) is_same = lo[query + i] == lo[query] && hi[query + i] == hi[query];
      if (lo[query] < hi[query]) {
        if (is_same) {
          value_page<kTile>(a, query, scores, rescale, values, lo[query], hi[query]);
        } else {
          value_page<1>(a, query, scores, rescale, values, lo[query], hi[query]);
        }
      }
      query += is_same ? kTile : 1;
    }
  }
  for (int q = 0; q < a.n_queries; ++q) {
    const Vec16 sum = Vec16::set1(state[q].sum);
    float* out = a.out + q * a.value_stride;
    for (int i = 0; i < a.value_stride; i += 16) (Vec16::load(out + i) / sum).store(out + i);
  }
}

}  // namespace
