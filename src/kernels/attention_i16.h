// Attention over one span with keys and values in 16-bit integers; included by each ISA file after attention.h and its
// pairs header.
//
// Queries become integers too, and the weights of each page's positions: then both products are exact sums of integers,
// twice as many a cycle as f32 has, and only scales and the softmax are f32. As in attention.h a query's part depends
// on the query and the span alone. Positions that a query does not see get the weight zero, which adds nothing.
//
// Limits: 2047 * 4095 * 256 channels and 8191 * 4095 * 64 positions stay below 2^31.
#include "kernels/kernels.h"

namespace {

using mobilellm::kSpanPages;

constexpr float kQueryLimit = 2047.0F;
constexpr float kValueLimit = 4095.0F;
constexpr float kWeightLimit = 8191.0F;
inline float key_limit(int head_dim) {
  const int limit = head_dim <= 256 ? 4095 : 4095 * 256 / head_dim;
  return static_cast<float>(limit);
}

// 2^x within 2 ulp on [-126, 1]; 2^-126 below; NaN stays NaN. Polynomial of Cephes exp2f.
inline Vec16 exp2_16(Vec16 x) {
  // The constant comes first: the second operand wins over NaN.
  const Vec16 clamped = Vec16::max(Vec16::set1(-126.0F), x);
  const Vec16 n = Vec16::round(clamped);
  const Vec16 r = clamped - n;
  Vec16 p = Vec16::set1(1.535336188319500e-4F);
  p = Vec16::fma(p, r, Vec16::set1(1.339887440266574e-3F));
  p = Vec16::fma(p, r, Vec16::set1(9.618437357674640e-3F));
  p = Vec16::fma(p, r, Vec16::set1(5.550332471162809e-2F));
  p = Vec16::fma(p, r, Vec16::set1(2.402264791363012e-1F));
  p = Vec16::fma(p, r, Vec16::set1(6.931472028550421e-1F));
  p = Vec16::fma(p, r, Vec16::set1(1.0F));
  return p * Vec16::exp2_integral(n);
}

// Queries of a call as integers.
struct IntegerQueries {
  std::byte* codes;  // [n][head_dim]
  int64_t stride;    // Bytes from one query to the next.
  float scales[kMaxQueries];
};

void quantize_query(const float* query, int head_dim, std::byte* codes, float& scale) {
  const HeadScale s = head_scale(query, head_dim, kQueryLimit);
  scale = s.scale;
  const Vec16 factor = Vec16::set1(s.inverse);
  for_each_vector(head_dim, [&](int64_t d, int n) {
    alignas(64) std::byte converted[32];
    store_i16(whole_numbers(load_n(query + d, n), factor, kQueryLimit), converted);
    __builtin_memcpy(codes + 2 * d, converted, sizeof(int16_t) * static_cast<size_t>(n));
  });
}

// Tiles are functions of their own: inlined, GCC 12 keeps their sums in memory.
//
// scores[q][p] = (codes of query q . codes of key p) * scale of p, for kQueries queries and kVectors vectors.
template <int kQueries, int kVectors>
[[gnu::noinline]] void integer_score_tile(const IntegerQueries& queries, int first_query, int head_dim,
                                          const std::byte* keys, const std::byte* next, const float* key_scales,
                                          float* scores) {
  PairSums acc[kQueries][kVectors];
#pragma GCC unroll 8
  for (int q = 0; q < kQueries; ++q) {
#pragma GCC unroll 4
    for (int p = 0; p < kVectors; ++p) acc[q][p].clear();
  }
  const std::byte* codes = queries.codes + first_query * queries.stride;
  for (int d = 0; d < head_dim; d += 2) {
    const std::byte* row = keys + static_cast<int64_t>(d) * kPageTokens * 2;
    if (next != nullptr) prefetch<kVectors * 64>(next + (row - keys));
    Pairs key[kVectors];
#pragma GCC unroll 4
    for (int p = 0; p < kVectors; ++p) key[p] = Pairs::load(row + 64 * p);
#pragma GCC unroll 8
    for (int q = 0; q < kQueries; ++q) {
      const Pairs channels = Pairs::set1(codes + q * queries.stride + 2 * d);
#pragma GCC unroll 4
      for (int p = 0; p < kVectors; ++p) acc[q][p].add(channels, key[p]);
    }
  }
  Vec16 scale[kVectors];
#pragma GCC unroll 4
  for (int p = 0; p < kVectors; ++p) scale[p] = Vec16::load(key_scales + 16 * p);
#pragma GCC unroll 8
  for (int q = 0; q < kQueries; ++q) {
#pragma GCC unroll 4
    for (int p = 0; p < kVectors; ++p) (acc[q][p].floats() * scale[p]).store(scores + q * kSpanTokens + 16 * p);
  }
}

// out[q] += scales[q * kSpanPages] * sum over pairs of positions [lo, hi) of weights times values, for kVectors vectors
// of channels.
template <int kQueries, int kVectors>
[[gnu::noinline]] void integer_value_tile(const std::byte* weights, const float* scales, const std::byte* values,
                                          const std::byte* next, int64_t stride, int lo, int hi, float* const* out,
                                          int channel) {
  constexpr int64_t kWeightStride = int64_t{kSpanTokens} * 4;
  PairSums acc[kQueries][kVectors];
#pragma GCC unroll 8
  for (int q = 0; q < kQueries; ++q) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) acc[q][v].clear();
  }
  const std::byte* row = values + (lo / 2 * stride + channel) * 4;
  for (int pos = lo; pos < hi; pos += 2, row += stride * 4) {
    if (next != nullptr) prefetch<kVectors * 64>(next + (row - values));
    Pairs value[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) value[v] = Pairs::load(row + 64 * v);
#pragma GCC unroll 8
    for (int q = 0; q < kQueries; ++q) {
      const Pairs weight = Pairs::set1(weights + q * kWeightStride + 2 * pos);
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) acc[q][v].add(weight, value[v]);
    }
  }
#pragma GCC unroll 8
  for (int q = 0; q < kQueries; ++q) {
    const Vec16 scale = Vec16::set1(scales[q * kSpanPages]);
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      float* to = out[q] + channel + 16 * v;
      Vec16::fma(acc[q][v].floats(), scale, Vec16::load(to)).store(to);
    }
  }
}

// What the queries of a tile see of a page, together: positions [lo, hi), empty when lo >= hi.
struct SeenOfPage {
  int lo = kPageTokens;
  int hi = 0;
  SeenOfPage(const SpanQuery* queries, int n, int base) {
    for (int q = 0; q < n; ++q) {
      const int from = clamp_int(queries[q].lo - base, 0, kPageTokens);
      const int to = clamp_int(queries[q].hi - base, 0, kPageTokens);
      if (from >= to) continue;
      lo = min_int(lo, from);
      hi = max_int(hi, to);
    }
  }
};

template <int kQueries>
void integer_score_page(const AttendSpanArgs& a, const IntegerQueries& queries, int first_query, const PageView& page,
                        float* scores) {
  constexpr int kVectors = Vec16::kPositionVectors;
  const SeenOfPage seen(a.queries + first_query, kQueries, page.base);
  const auto* scales = reinterpret_cast<const float*>(page.data + a.layout.key_scales);
  float* out = scores + first_query * kSpanTokens + page.base;
  const int end = (seen.hi + 15) / 16;
  for (int p = seen.lo / 16 / kVectors * kVectors; p < end; p += kVectors) {
    const int64_t offset = int64_t{64} * p;
    const std::byte* next = page.next == nullptr ? nullptr : page.next + offset;
    integer_score_tile<kQueries, kVectors>(queries, first_query, a.head_dim, page.data + offset, next, scales + 16 * p,
                                           out + 16 * p);
  }
}

template <int kQueries>
void integer_value_page(const AttendSpanArgs& a, int first_query, const PageView& page, const float* scores,
                        const float* weight_scales, float* const* out) {
  constexpr int kVectors = Vec16::kPositionVectors;
  const SeenOfPage seen(a.queries + first_query, kQueries, page.base);
  if (seen.lo >= seen.hi) return;
  const std::byte* weights =
      reinterpret_cast<const std::byte*>(scores + first_query * kSpanTokens) + int64_t{2} * page.base;
  const float* scales = weight_scales + first_query * kSpanPages + page.base / kPageTokens;
  const int n_channels = a.layout.value_stride;
  const int lo = seen.lo / 2 * 2;
  int channel = 0;
  for (; channel + 16 * kVectors <= n_channels; channel += 16 * kVectors) {
    integer_value_tile<kQueries, kVectors>(weights, scales, page.data, page.next, n_channels, lo, seen.hi,
                                           out + first_query, channel);
  }
  for (; channel < n_channels; channel += 16) {
    integer_value_tile<kQueries, 1>(weights, scales, page.data, page.next, n_channels, lo, seen.hi, out + first_query,
                                    channel);
  }
}

// Scores of one query become weights exp(score - maximum) times the values' scale, as integers with a scale per page,
// in the place of the scores; the part gets the maximum and the sum of the weights. Pages [first_page, end_page) are
// those that any query of the call sees.
[[gnu::noinline]] void integer_softmax(const AttendSpanArgs& a, const SpanQuery& query, float query_scale,
                                       int first_page, int end_page, float* scores, float* weight_scales,
                                       float* header) {
  const Vec16 minus_infinity = Vec16::set1(-__builtin_inff());
  const Vec16 zero = Vec16::zero();
  const auto is_partial = [&](int p) { return 16 * p < query.lo || 16 * p + 16 > query.hi; };
  const auto seen_or = [&](int p, Vec16 x, Vec16 other) {
    return Vec16::select_range(clamp_int(query.lo - 16 * p, 0, 16), clamp_int(query.hi - 16 * p, 0, 16), x, other);
  };
  const int begin = query.lo / 16;
  const int end = (query.hi + 15) / 16;
  Vec16 maximum = minus_infinity;
  for (int p = begin; p < end; ++p) {
    Vec16 score = Vec16::load(scores + 16 * p);
    if (is_partial(p)) score = seen_or(p, score, minus_infinity);
    maximum = Vec16::max(maximum, score);
  }
  constexpr float kLog2E = 1.44269504088896341F;
  constexpr float kLn2 = 0.693147180559945309F;
  const float factor = query_scale * kLog2E;
  const float shift = maximum.reduce_max() * factor;
  const Vec16 factors = Vec16::set1(factor);
  const Vec16 shifts = Vec16::set1(-shift);
  Vec16 sum = zero;
  Vec16 poison = zero;
  auto* codes = reinterpret_cast<std::byte*>(scores);
  for (int page = first_page; page < end_page; ++page) {
    const std::byte* kv = a.kv + a.pages[page] * a.page_bytes;
    Vec16 weight[kPageVectors];
    Vec16 largest = zero;
    for (int i = 0; i < kPageVectors; ++i) {
      const int p = page * kPageVectors + i;
      weight[i] = zero;
      if (p < begin || p >= end) continue;
      Vec16 e = exp2_16(Vec16::fma(Vec16::load(scores + 16 * p), factors, shifts));
      weight[i] = e * Vec16::load(kv + a.layout.value_scales + 64 * i);
      if (is_partial(p)) {
        e = seen_or(p, e, zero);
        weight[i] = seen_or(p, weight[i], zero);
      }
      sum = sum + e;
      poison = Vec16::fma(weight[i], zero, poison);
      largest = Vec16::max(weight[i], largest);
    }
    const float top = largest.reduce_max();
    const bool is_nothing = !(top >= 1e-30F);
    weight_scales[page] = is_nothing ? 0.0F : top / kWeightLimit;
    const Vec16 inverse = Vec16::set1(is_nothing ? 0.0F : kWeightLimit / top);
    for (int i = 0; i < kPageVectors; ++i) {
      const Vec16 code = Vec16::min(Vec16::round(weight[i] * inverse), Vec16::set1(kWeightLimit));
      store_i16(code, codes + int64_t{2} * (page * kPageTokens + 16 * i));
    }
  }
  header[0] = shift * kLn2;
  // A NaN among the values is in their scale, and makes the sum one.
  header[1] = sum.reduce_add() + poison.reduce_add();
}

void attend_i16(const AttendSpanArgs& a) noexcept {
  constexpr int kTile = Vec16::kQueryTile;
  const int n = a.n_queries;
  const int value_stride = a.layout.value_stride;
  float* scores = a.scratch;
  auto* query_codes = reinterpret_cast<std::byte*>(scores + static_cast<int64_t>(n) * kSpanTokens);
  SpanParts parts(a, reinterpret_cast<float*>(query_codes) + static_cast<int64_t>(kPageTokens) * value_stride);
  IntegerQueries queries{query_codes, int64_t{2} * a.head_dim, {}};
  static_assert(kMaxQueries * 2 <= kPageTokens * 4, "codes of the queries fit where other formats hold a page");
  for (int q = 0; q < n; ++q) {
    quantize_query(a.queries[q].query, a.head_dim, query_codes + q * queries.stride, queries.scales[q]);
  }
  float weight_scales[kMaxQueries * kSpanPages];
  const auto pass = [&](int64_t offset, int first_chunk, auto f) {
    for (int page = parts.first_page; page < parts.end_page; ++page) {
      const PageView view{a.kv + a.pages[page] * a.page_bytes + offset,
                          next_chunk(a, parts, first_chunk + page - parts.first_page + 1), page * kPageTokens};
      for_each_tile<kTile>(n, [&](auto tile, int first) { f(tile, first, view); });
    }
  };
  pass(0, 0, [&](auto tile, int first, const PageView& page) {
    integer_score_page<decltype(tile)::value>(a, queries, first, page, scores);
  });
  for (int q = 0; q < n; ++q) {
    integer_softmax(a, a.queries[q], queries.scales[q], parts.first_page, parts.end_page, scores + q * kSpanTokens,
                    weight_scales + q * kSpanPages, parts.part[q]);
  }
  pass(a.layout.values, parts.end_page - parts.first_page, [&](auto tile, int first, const PageView& page) {
    integer_value_page<decltype(tile)::value>(a, first, page, scores, weight_scales, parts.out);
  });
  parts.merge(a);
}

void store_kv_i16(const StoreKvArgs& a) noexcept {
  const float limit = key_limit(a.head_dim);
  const HeadScale key = head_scale(a.key, a.head_dim, limit);
  const HeadScale value = head_scale(a.value, a.head_dim, kValueLimit);
  __builtin_memcpy(a.kv + a.layout.key_scales + 4 * a.slot, &key.scale, 4);
  __builtin_memcpy(a.kv + a.layout.value_scales + 4 * a.slot, &value.scale, 4);
  std::byte* keys = a.kv + int64_t{4} * a.slot;
  const int64_t stride = a.layout.value_stride;
  std::byte* values = a.kv + a.layout.values + a.slot / 2 * stride * 4 + a.slot % 2 * 2;
  for_each_vector(a.head_dim, [&](int64_t d, int n) {
    alignas(64) std::byte converted[32];
    store_i16(whole_numbers(load_n(a.key + d, n), Vec16::set1(key.inverse), limit), converted);
    for (int i = 0; i < n; i += 2) __builtin_memcpy(keys + (d + i) * kPageTokens * 2, converted + 2 * i, 4);
    // The last vector is padded with zeros, as the layout asks.
    store_i16(whole_numbers(load_n(a.value + d, n), Vec16::set1(value.inverse), kValueLimit), converted);
    for (int i = 0; i < 16; ++i) __builtin_memcpy(values + (d + i) * 4, converted + 2 * i, 2);
  });
}

}  // namespace
