// Attention over one span of positions, and the merging of spans; included by each ISA file after elementwise.h.
//
// A query's part of a span depends on that query and the span's keys and values alone: scores are summed over channels
// in rising order, lanes being positions; weighted values over positions in rising order, lanes being channels; only
// the softmax denominator is summed across lanes, by the fixed tree. So results are the same bits whatever other
// queries share a call.
#include "kernels/kernels.h"

namespace {

using mobilellm::AttendSpanArgs;
using mobilellm::kMaxQueries;
using mobilellm::kPageTokens;
using mobilellm::kPartHeader;
using mobilellm::kSpanTokens;
using mobilellm::MergeSpansArgs;
using mobilellm::SpanQuery;
using mobilellm::StoreKvArgs;

constexpr int kPageVectors = kPageTokens / 16;

// A storage format of keys and values: how sixteen stored numbers become f32, and back.
struct KvF32 {
  static constexpr int kBytes = 4;
  static constexpr int kPagesAhead = 1;  // Fetched: 8 to 16 KiB. Measured, see docs/log.md.
  static constexpr bool kHasScales = false;
  static Vec16 load(const std::byte* p) { return Vec16::load(p); }
  static void store(Vec16 x, std::byte* p) { x.store(reinterpret_cast<float*>(p)); }
};

// Numbers beyond the range of f16 become its largest ones, so that no infinity comes up that was none before.
struct KvF16 {
  static constexpr int kBytes = 2;
  static constexpr int kPagesAhead = 1;
  static constexpr bool kHasScales = false;
  static Vec16 load(const std::byte* p) { return Vec16::load_f16(p); }
  static void store(Vec16 x, std::byte* p) {
    // Constants come first: the second operand wins when it is NaN.
    Vec16::min(Vec16::set1(65504.0F), Vec16::max(Vec16::set1(-65504.0F), x)).store_f16(p);
  }
};

// One byte each, times a scale per position.
struct KvQ8 {
  static constexpr int kBytes = 1;
  static constexpr int kPagesAhead = 2;
  static constexpr bool kHasScales = true;
  static Vec16 load(const std::byte* p) { return Vec16::load_i8(p); }
  static void store(Vec16 x, std::byte* p) { x.store_i8(p); }
};

// Compile-time numbers and types for generic lambdas.
template <int kValue>
struct Count {
  static constexpr int value = kValue;
};
template <int kIsFirst, typename A, typename B>
struct ChooseType {
  using Type = A;
};
template <typename A, typename B>
struct ChooseType<0, A, B> {
  using Type = B;
};

template <int kBytes>
inline void prefetch(const std::byte* p) {
  for (int i = 0; i < kBytes; i += 64) __builtin_prefetch(p + i, 0, 3);
}

inline int clamp_int(int x, int low, int high) { return x < low ? low : (x > high ? high : x); }
inline int min_int(int a, int b) { return a < b ? a : b; }
inline int max_int(int a, int b) { return a > b ? a : b; }

// scores[q][p] = queries[q] . keys[p] for kQueries queries and kVectors vectors of positions. `next` is what will be
// read soon: as many lines of it are asked for as this tile reads.
template <typename Kv, int kQueries, int kVectors>
void score_tile(const SpanQuery* queries, int head_dim, const std::byte* keys, const std::byte* next, float* scores) {
  Vec16 acc[kQueries][kVectors];
  const float* query[kQueries];
#pragma GCC unroll 8
  for (int q = 0; q < kQueries; ++q) {
    query[q] = queries[q].query;
#pragma GCC unroll 4
    for (int p = 0; p < kVectors; ++p) acc[q][p] = Vec16::zero();
  }
  for (int d = 0; d < head_dim; ++d) {
    const std::byte* row = keys + static_cast<int64_t>(d) * kPageTokens * Kv::kBytes;
    if (next != nullptr) prefetch<kVectors * 16 * Kv::kBytes>(next + (row - keys));
    Vec16 key[kVectors];
#pragma GCC unroll 4
    for (int p = 0; p < kVectors; ++p) key[p] = Kv::load(row + 16 * p * Kv::kBytes);
#pragma GCC unroll 8
    for (int q = 0; q < kQueries; ++q) {
      const Vec16 channel = Vec16::set1(query[q][d]);
#pragma GCC unroll 4
      for (int p = 0; p < kVectors; ++p) acc[q][p] = Vec16::fma(channel, key[p], acc[q][p]);
    }
  }
#pragma GCC unroll 8
  for (int q = 0; q < kQueries; ++q) {
#pragma GCC unroll 4
    for (int p = 0; p < kVectors; ++p) acc[q][p].store(scores + q * kSpanTokens + 16 * p);
  }
}

// acc[q] += sum over positions [lo, hi) of weights[q][pos] * values[pos], for kVectors vectors of channels.
template <typename Kv, int kQueries, int kVectors>
void value_tile(const float* weights, const std::byte* values, const std::byte* next, int64_t stride, int lo, int hi,
                float* const* out, int channel) {
  Vec16 acc[kQueries][kVectors];
#pragma GCC unroll 8
  for (int q = 0; q < kQueries; ++q) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) acc[q][v] = Vec16::load(out[q] + channel + 16 * v);
  }
  const std::byte* row = values + (lo * stride + channel) * Kv::kBytes;
  for (int pos = lo; pos < hi; ++pos, row += stride * Kv::kBytes) {
    if (next != nullptr) prefetch<kVectors * 16 * Kv::kBytes>(next + (row - values));
    Vec16 value[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) value[v] = Kv::load(row + 16 * v * Kv::kBytes);
#pragma GCC unroll 8
    for (int q = 0; q < kQueries; ++q) {
      const Vec16 weight = Vec16::set1(weights[q * kSpanTokens + pos]);
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) acc[q][v] = Vec16::fma(weight, value[v], acc[q][v]);
    }
  }
#pragma GCC unroll 8
  for (int q = 0; q < kQueries; ++q) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) acc[q][v].store(out[q] + channel + 16 * v);
  }
}

// One page of a span as a pass over it sees it.
struct PageView {
  const std::byte* data;
  const std::byte* next;  // Read after this one; null when nothing is to be fetched ahead.
  int base;               // Position of the page in the span.
};

// Scores of kQueries queries, where they need any.
template <typename Kv, int kQueries>
void score_page(const AttendSpanArgs& a, int first_query, const PageView& page, float* scores) {
  constexpr int kVectors = Vec16::kPositionVectors;
  const SpanQuery* queries = a.queries + first_query;
  int lo = kSpanTokens;
  int hi = 0;
  for (int q = 0; q < kQueries; ++q) {
    if (queries[q].lo == queries[q].hi) continue;
    lo = min_int(lo, queries[q].lo);
    hi = max_int(hi, queries[q].hi);
  }
  const int begin = max_int(lo - page.base, 0) / 16;
  const int end = (min_int(hi - page.base, kPageTokens) + 15) / 16;
  float* out = scores + first_query * kSpanTokens + page.base;
  const auto tile = [&](auto n_vectors, int p) {
    const int64_t offset = int64_t{16} * p * Kv::kBytes;
    score_tile<Kv, kQueries, decltype(n_vectors)::value>(
        queries, a.head_dim, page.data + offset, page.next == nullptr ? nullptr : page.next + offset, out + 16 * p);
  };
  // Where a page is needed in part (the diagonal, the edge of a window), half a tile may do.
  for (int p = begin / kVectors * kVectors; p < end; p += kVectors) {
    if constexpr (kVectors > 1) {
      constexpr int kHalf = kVectors / 2;
      if (end <= p + kHalf || begin >= p + kHalf) {
        tile(Count<kHalf>{}, end <= p + kHalf ? p : p + kHalf);
        continue;
      }
    }
    tile(Count<kVectors>{}, p);
  }
}

template <typename Kv, int kQueries>
void value_rows(const AttendSpanArgs& a, const PageView& page, const float* weights, float* const* out, int lo,
                int hi) {
  constexpr int kVectors = Vec16::kPositionVectors;
  const int n_channels = a.layout.value_stride;
  const int64_t stride = a.layout.value_stride;
  int channel = 0;
  for (; channel + 16 * kVectors <= n_channels; channel += 16 * kVectors) {
    value_tile<Kv, kQueries, kVectors>(weights, page.data, page.next, stride, lo, hi, out, channel);
  }
  for (; channel < n_channels; channel += 16)
    value_tile<Kv, kQueries, 1>(weights, page.data, page.next, stride, lo, hi, out, channel);
}

template <typename Kv, int kQueries>
void value_page(const AttendSpanArgs& a, int first_query, const PageView& page, const float* scores,
                float* const* out) {
  const float* weights = scores + first_query * kSpanTokens + page.base;
  int lo[kQueries];
  int hi[kQueries];
  int shared_lo = 0;
  int shared_hi = kPageTokens;
  for (int q = 0; q < kQueries; ++q) {
    lo[q] = clamp_int(a.queries[first_query + q].lo - page.base, 0, kPageTokens);
    hi[q] = clamp_int(a.queries[first_query + q].hi - page.base, 0, kPageTokens);
    shared_lo = max_int(shared_lo, lo[q]);
    shared_hi = min_int(shared_hi, hi[q]);
  }
  // Positions that all see go together; the others one query at a time, so that a hidden position adds nothing at all,
  // not even zero times an infinity.
  if constexpr (kQueries == 1) {
    if (lo[0] < hi[0]) value_rows<Kv, 1>(a, page, weights, out + first_query, lo[0], hi[0]);
  } else {
    const bool is_shared = shared_lo < shared_hi;
    for (int q = 0; q < kQueries; ++q) {
      const int end = is_shared ? shared_lo : hi[q];
      if (lo[q] < end) value_rows<Kv, 1>(a, page, weights + q * kSpanTokens, out + first_query + q, lo[q], end);
    }
    if (!is_shared) return;
    value_rows<Kv, kQueries>(a, page, weights, out + first_query, shared_lo, shared_hi);
    for (int q = 0; q < kQueries; ++q) {
      if (shared_hi < hi[q])
        value_rows<Kv, 1>(a, page, weights + q * kSpanTokens, out + first_query + q, shared_hi, hi[q]);
    }
  }
}

// Calls f(Count<n>, first) for all queries in tiles of up to kMax.
template <int kMax, typename F>
inline void for_each_tile(int n_queries, F f) {
  int query = 0;
  for (; query + kMax <= n_queries; query += kMax) f(Count<kMax>{}, query);
  if constexpr (kMax > 1) {
    if (query < n_queries) {
      for_each_tile<kMax - 1>(n_queries - query, [&](auto n, int first) { f(n, query + first); });
    }
  }
}

// A stored page part as f32, for many queries to read.
template <typename Kv>
void convert_page(const std::byte* data, int n, float* out) {
  for (int i = 0; i < n; i += 16) Kv::load(data + static_cast<int64_t>(i) * Kv::kBytes).store(out + i);
}

// Scores become weights exp(score - maximum), times the values' scale where they have one; the part gets the maximum
// and the sum of the weights.
template <typename Kv>
void softmax_span(const AttendSpanArgs& a, const SpanQuery& query, float* scores, float* header) {
  const Vec16 minus_infinity = Vec16::set1(-__builtin_inff());
  const int begin = query.lo / 16;
  const int end = (query.hi + 15) / 16;
  const auto scale_of = [&](int64_t offset, int p) {
    return Vec16::load(a.kv + a.pages[p / kPageVectors] * a.page_bytes + offset + 64 * (p % kPageVectors));
  };
  Vec16 maximum = minus_infinity;
  for (int p = begin; p < end; ++p) {
    Vec16 score = Vec16::load(scores + 16 * p);
    if constexpr (Kv::kHasScales) score = score * scale_of(a.layout.key_scales, p);
    if (16 * p < query.lo || 16 * p + 16 > query.hi) {
      score = Vec16::select_range(clamp_int(query.lo - 16 * p, 0, 16), clamp_int(query.hi - 16 * p, 0, 16), score,
                                  minus_infinity);
      score.store(scores + 16 * p);
    } else if constexpr (Kv::kHasScales) {
      score.store(scores + 16 * p);
    }
    maximum = Vec16::max(maximum, score);
  }
  const float span_maximum = maximum.reduce_max();
  const Vec16 shift = Vec16::set1(span_maximum);
  Vec16 sum = Vec16::zero();
  for (int p = begin; p < end; ++p) {
    Vec16 e = exp16(Vec16::load(scores + 16 * p) - shift);
    sum = sum + e;
    if constexpr (Kv::kHasScales) e = e * scale_of(a.layout.value_scales, p);
    e.store(scores + 16 * p);
  }
  header[0] = span_maximum;
  header[1] = sum.reduce_add();
}

// state = state + part, both relative to the larger maximum; values have n channels, a multiple of 16.
inline void merge_part(float* state, const float* part, int n) {
  const float maximum = state[0] > part[0] ? state[0] : part[0];
  const float old_factor = exp_scalar(state[0] - maximum);
  const float new_factor = exp_scalar(part[0] - maximum);
  state[0] = maximum;
  state[1] = fma_scalar(part[1], new_factor, state[1] * old_factor);
  const Vec16 old_scale = Vec16::set1(old_factor);
  const Vec16 new_scale = Vec16::set1(new_factor);
  for (int i = kPartHeader; i < kPartHeader + n; i += 16) {
    Vec16::fma(Vec16::load(part + i), new_scale, Vec16::load(state + i) * old_scale).store(state + i);
  }
}

// Where the parts of a call's queries are computed, and the pages that any of them sees.
struct SpanParts {
  float* part[kMaxQueries];
  float* out[kMaxQueries];  // Values of the part, zero at first.
  int first_page;
  int end_page;

  // `memory` holds a part per query, for those that are merged at the end.
  SpanParts(const AttendSpanArgs& a, float* memory) {
    int begin = kSpanTokens;
    int end = 0;
    for (int q = 0; q < a.n_queries; ++q) {
      const SpanQuery& query = a.queries[q];
      const bool merges = a.accumulates && query.part[1] != 0.0F;
      part[q] = merges ? memory + int64_t{q} * (kPartHeader + a.layout.value_stride) : query.part;
      out[q] = part[q] + kPartHeader;
      begin = min_int(begin, query.lo);
      end = max_int(end, query.hi);
      for (int i = 0; i < a.layout.value_stride; i += 16) Vec16::zero().store(out[q] + i);
    }
    first_page = begin / kPageTokens;
    end_page = (end + kPageTokens - 1) / kPageTokens;
  }
  void merge(const AttendSpanArgs& a) const {
    for (int q = 0; q < a.n_queries; ++q) {
      if (part[q] != a.queries[q].part) merge_part(a.queries[q].part, part[q], a.layout.value_stride);
    }
  }
};

// What is read as the chunk'th, where few queries make fetching ahead worth it: the keys of every page, then the values
// of every page, then the keys of what comes next.
inline const std::byte* next_chunk(const AttendSpanArgs& a, const SpanParts& parts, int chunk) {
  if (a.n_queries > Vec16::kQueryTile) return nullptr;
  const int n_pages = parts.end_page - parts.first_page;
  if (chunk < 2 * n_pages) {
    const int page = parts.first_page + (chunk < n_pages ? chunk : chunk - n_pages);
    return a.kv + a.pages[page] * a.page_bytes + (chunk < n_pages ? 0 : a.layout.values);
  }
  chunk -= 2 * n_pages;
  return chunk < a.n_next_pages ? a.next_kv + a.next_pages[chunk] * a.page_bytes : nullptr;
}

template <typename Kv>
void attend_span(const AttendSpanArgs& a) {
  constexpr int kTile = Vec16::kQueryTile;
  const int n = a.n_queries;
  const int value_stride = a.layout.value_stride;
  float* scores = a.scratch;
  float* page_values = scores + static_cast<int64_t>(n) * kSpanTokens;
  SpanParts parts(a, page_values + static_cast<int64_t>(kPageTokens) * value_stride);
  // Many queries: a page becomes f32 once. Few: in registers, while the pages read soon are fetched.
  const bool converts = !__is_same(Kv, KvF32) && n > kTile;
  const auto pass = [&](int64_t offset, int first_chunk, int n_values, auto f) {
    for (int page = parts.first_page; page < parts.end_page; ++page) {
      const std::byte* data = a.kv + a.pages[page] * a.page_bytes + offset;
      if (converts) {
        convert_page<Kv>(data, n_values, page_values);
        f(Count<1>{}, PageView{reinterpret_cast<const std::byte*>(page_values), nullptr, page * kPageTokens});
      } else {
        f(Count<0>{}, PageView{data, next_chunk(a, parts, first_chunk + page - parts.first_page + Kv::kPagesAhead),
                               page * kPageTokens});
      }
    }
  };
  pass(0, 0, a.head_dim * kPageTokens, [&](auto is_f32, const PageView& page) {
    for_each_tile<kTile>(n, [&](auto tile, int first) {
      score_page<typename ChooseType<decltype(is_f32)::value, KvF32, Kv>::Type, decltype(tile)::value>(a, first, page,
                                                                                                       scores);
    });
  });
  for (int q = 0; q < n; ++q) softmax_span<Kv>(a, a.queries[q], scores + q * kSpanTokens, parts.part[q]);
  pass(a.layout.values, parts.end_page - parts.first_page, value_stride * kPageTokens,
       [&](auto is_f32, const PageView& page) {
         for_each_tile<kTile>(n, [&](auto tile, int first) {
           value_page<typename ChooseType<decltype(is_f32)::value, KvF32, Kv>::Type, decltype(tile)::value>(
               a, first, page, scores, parts.out);
         });
       });
  parts.merge(a);
}

void attend_f32(const AttendSpanArgs& a) noexcept { attend_span<KvF32>(a); }
void attend_f16(const AttendSpanArgs& a) noexcept { attend_span<KvF16>(a); }
void attend_q8(const AttendSpanArgs& a) noexcept { attend_span<KvQ8>(a); }

void merge_spans(const MergeSpansArgs& a) noexcept {
  const int value_stride = (a.head_dim + 15) / 16 * 16;
  for (int i = 1; i < a.n_parts; ++i) merge_part(a.parts, a.parts + i * a.part_stride, value_stride);
  const Vec16 sum = Vec16::set1(a.parts[1]);
  for_each_vector(a.head_dim,
                  [&](int64_t i, int n) { store_n(Vec16::load(a.parts + kPartHeader + i) / sum, a.out + i, n); });
}

// The factor that makes a head's numbers of integers within +-limit, and its inverse. A NaN or an infinity anywhere
// makes the scale NaN, so that it is not lost.
struct HeadScale {
  float scale;
  float inverse;
};

inline HeadScale head_scale(const float* x, int head_dim, float limit) {
  Vec16 largest = Vec16::zero();
  Vec16 probe = Vec16::zero();
  for_each_vector(head_dim, [&](int64_t i, int n) {
    const Vec16 v = load_n(x + i, n);
    largest = Vec16::max(largest, Vec16::max(v, Vec16::zero() - v));
    probe = Vec16::fma(v, Vec16::zero(), probe);
  });
  const float maximum = largest.reduce_max();
  const float nan_or_zero = probe.reduce_add();
  if (maximum < 1e-30F) return {nan_or_zero, 0.0F};
  return {maximum / limit + nan_or_zero, limit / maximum};
}

// A NaN comes first here and loses; it is in the scale.
inline Vec16 whole_numbers(Vec16 x, Vec16 factor, float limit) {
  return Vec16::max(Vec16::min(Vec16::round(x * factor), Vec16::set1(limit)), Vec16::set1(-limit));
}

constexpr float kByteLimit = 127.0F;

template <typename Kv>
void store_kv(const StoreKvArgs& a) {
  Vec16 key_factor = Vec16::zero();
  Vec16 value_factor = Vec16::zero();
  if constexpr (Kv::kHasScales) {
    const HeadScale key = head_scale(a.key, a.head_dim, kByteLimit);
    const HeadScale value = head_scale(a.value, a.head_dim, kByteLimit);
    key_factor = Vec16::set1(key.inverse);
    value_factor = Vec16::set1(value.inverse);
    __builtin_memcpy(a.kv + a.layout.key_scales + 4 * a.slot, &key.scale, 4);
    __builtin_memcpy(a.kv + a.layout.value_scales + 4 * a.slot, &value.scale, 4);
  }
  const auto scaled = [&](Vec16 x, Vec16 factor) {
    if constexpr (!Kv::kHasScales) return x;
    return whole_numbers(x, factor, kByteLimit);
  };
  std::byte* key_column = a.kv + static_cast<int64_t>(a.slot) * Kv::kBytes;
  std::byte* value_row = a.kv + a.layout.values + static_cast<int64_t>(a.slot) * a.layout.value_stride * Kv::kBytes;
  for_each_vector(a.head_dim, [&](int64_t d, int n) {
    alignas(64) std::byte converted[16 * Kv::kBytes];
    Kv::store(scaled(load_n(a.key + d, n), key_factor), converted);
    for (int i = 0; i < n; ++i) {
      __builtin_memcpy(key_column + (d + i) * kPageTokens * Kv::kBytes, converted + i * Kv::kBytes, Kv::kBytes);
    }
    // The last vector is padded with zeros, as the layout asks.
    Kv::store(scaled(load_n(a.value + d, n), value_factor), value_row + d * Kv::kBytes);
  });
}

void store_kv_f32(const StoreKvArgs& a) noexcept { store_kv<KvF32>(a); }
void store_kv_f16(const StoreKvArgs& a) noexcept { store_kv<KvF16>(a); }
void store_kv_q8(const StoreKvArgs& a) noexcept { store_kv<KvQ8>(a); }

}  // namespace
