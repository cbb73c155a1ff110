// Attention kernels of every instruction set against the scalar ones, bit for bit, and against plain double arithmetic.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "base/random.h"
#include "kernels/kernels.h"
#include "tensor/float_convert.h"
#include "tests/support/tested_isas.h"

namespace mobilellm {
namespace {

struct KvFormat {
  const char* name;
  int bytes_per_number;
  bool has_scales;
  // Steps of stored numbers in [-1, 1], half of one; and how far scores and weighted values may be off.
  double half_step;
  double score_error;
  double value_error;
  void (*KernelTable::*attend)(const AttendSpanArgs&) noexcept;
  void (*KernelTable::*store)(const StoreKvArgs&) noexcept;
};

const KvFormat kFormats[] = {
    {"f32", 4, false, 0, 5e-5, 2e-5, &KernelTable::attend_f32, &KernelTable::store_kv_f32},
    {"f16", 2, false, 0x1p-11, 5e-5, 2e-5, &KernelTable::attend_f16, &KernelTable::store_kv_f16},
    {"i16", 2, true, 0.5 / 4095, 2e-2, 5e-3, &KernelTable::attend_i16, &KernelTable::store_kv_i16},
    {"q8", 1, true, 0.5 / 127, 5e-5, 2e-5, &KernelTable::attend_q8, &KernelTable::store_kv_q8},
};

double scale_at(const std::byte* head, const KvLayout& layout, bool is_key, int slot) {
  float scale = 0;
  std::memcpy(&scale, head + (is_key ? layout.key_scales : layout.value_scales) + 4 * slot, 4);
  return static_cast<double>(scale);
}

// What lies in the cache for one number, read without the kernels.
double stored(const KvFormat& format, const std::byte* head, const KvLayout& layout, bool is_key, int slot, int d) {
  const int64_t index = is_key ? int64_t{d} * kPageTokens + slot : int64_t{slot} * layout.value_stride + d;
  const std::byte* p = head + (is_key ? 0 : layout.values) + index * format.bytes_per_number;
  if (format.bytes_per_number == 4) {
    float value = 0;
    std::memcpy(&value, p, 4);
    return static_cast<double>(value);
  }
  if (format.bytes_per_number == 2 && format.has_scales) {
    int16_t code = 0;
    const int64_t pair = is_key ? int64_t{d / 2} * kPageTokens + slot : int64_t{slot / 2} * layout.value_stride + d;
    std::memcpy(&code, head + (is_key ? 0 : layout.values) + 4 * pair + 2 * (is_key ? d % 2 : slot % 2), 2);
    return scale_at(head, layout, is_key, slot) * code;
  }
  if (format.bytes_per_number == 2) {
    uint16_t bits = 0;
    std::memcpy(&bits, p, 2);
    return static_cast<double>(fp16_to_float(bits));
  }
  return scale_at(head, layout, is_key, slot) * std::to_integer<int8_t>(*p);
}

std::vector<float> random_floats(size_t n, uint64_t stream, float scale = 1.0F) {
  std::vector<float> values(n);
  for (size_t i = 0; i < n; ++i) values[i] = scale * static_cast<float>(2.0 * random_uniform(1, stream, i) - 1.0);
  return values;
}

// A span of random keys and values of one head, its pages in no order, with rubbish where nothing is stored.
struct Span {
  static constexpr int kPositions = kSpanTokens - 40;

  const KvFormat& format;
  int head_dim;
  KvLayout layout;
  int64_t page_bytes;
  std::vector<int32_t> pages;
  std::vector<std::byte> memory;
  std::vector<float> keys, values;

  Span(const KvFormat& kv_format, int dim, const KernelTable& table)
      : format(kv_format), head_dim(dim), layout(kv_layout(dim, kv_format.bytes_per_number, kv_format.has_scales)) {
    page_bytes = layout.bytes + 64;
    memory.assign(static_cast<size_t>(page_bytes) * kSpanPages, std::byte{0x55});
    for (int i = 0; i < kSpanPages; ++i) pages.push_back((i * 3 + 1) % kSpanPages);
    keys = random_floats(static_cast<size_t>(kPositions * dim), 30);
    values = random_floats(static_cast<size_t>(kPositions * dim), 31);
    for (int pos = 0; pos < kPositions; ++pos) {
      (table.*format.store)({keys.data() + pos * dim, values.data() + pos * dim, dim, pos % kPageTokens,
                             memory.data() + page_of(pos), layout});
    }
  }
  int64_t page_of(int pos) const { return pages[static_cast<size_t>(pos / kPageTokens)] * page_bytes; }
  double key(int pos, int d) const {
    return stored(format, memory.data() + page_of(pos), layout, true, pos % kPageTokens, d);
  }
  double value(int pos, int d) const {
    return stored(format, memory.data() + page_of(pos), layout, false, pos % kPageTokens, d);
  }
  AttendSpanArgs args(const std::vector<SpanQuery>& queries, std::vector<float>& scratch) const {
    scratch.resize(static_cast<size_t>(attend_scratch_floats(static_cast<int>(queries.size()), layout.value_stride)));
    return {queries.data(),
            static_cast<int>(queries.size()),
            pages.data(),
            memory.data(),
            page_bytes,
            head_dim,
            layout,
            scratch.data(),
            memory.data(),
            pages.data(),
            2,
            false};
  }
};

class AttentionIsa : public testing::TestWithParam<Isa> {};
INSTANTIATE_TEST_SUITE_P(Kernels, AttentionIsa, testing::ValuesIn(tested_isas()),
                         [](const auto& param_info) { return std::string(isa_name(param_info.param)); });

constexpr int kHeadDims[] = {8, 24, 64, 80, 128};
constexpr int kQueryCounts[] = {1, 3, 4, 7, 29};

TEST_P(AttentionIsa, StoresTheBitsOfTheScalarKernels) {
  const KernelTable& table = kernel_table(GetParam());
  for (const KvFormat& format : kFormats) {
    for (const int head_dim : kHeadDims) {
      const Span expected(format, head_dim, kernel_table(Isa::kScalar));
      const Span got(format, head_dim, table);
      EXPECT_EQ(got.memory, expected.memory) << format.name << " head_dim " << head_dim;
      for (int pos = 0; pos < Span::kPositions; ++pos) {
        for (int d = 0; d < head_dim; ++d) {
          const auto i = static_cast<size_t>(pos * head_dim + d);
          ASSERT_NEAR(expected.key(pos, d), static_cast<double>(expected.keys[i]), format.half_step * 1.01)
              << format.name;
          ASSERT_NEAR(expected.value(pos, d), static_cast<double>(expected.values[i]), format.half_step * 1.01)
              << format.name;
        }
      }
    }
  }
}

TEST_P(AttentionIsa, StoresWhatDoesNotFitAsTheLargestNumberAndKeepsNan) {
  const KernelTable& table = kernel_table(GetParam());
  const float infinity = std::numeric_limits<float>::infinity();
  const std::vector<float> x = {65504.0F, 65520.0F, -1e30F, infinity, -infinity, std::nanf(""), 1e-9F, -0.0F};
  const KvLayout layout = kv_layout(8, 2, false);
  std::vector<std::byte> memory(static_cast<size_t>(layout.bytes));
  table.store_kv_f16({x.data(), x.data(), 8, 5, memory.data(), layout});
  for (const bool is_key : {true, false}) {
    const auto got = [&](int d) { return stored(kFormats[1], memory.data(), layout, is_key, 5, d); };
    EXPECT_EQ(got(0), 65504.0);
    EXPECT_EQ(got(1), 65504.0);
    EXPECT_EQ(got(2), -65504.0);
    EXPECT_EQ(got(3), 65504.0);
    EXPECT_EQ(got(4), -65504.0);
    EXPECT_TRUE(std::isnan(got(5)));
    EXPECT_EQ(got(6), 0.0);
    EXPECT_TRUE(std::signbit(got(7)));
  }
  // As integers, what is no number is told by the scale, and a zero head stays zero.
  const KvLayout words = kv_layout(8, 2, true);
  std::vector<std::byte> words_memory(static_cast<size_t>(words.bytes));
  const KvLayout bytes = kv_layout(8, 1, true);
  memory.assign(static_cast<size_t>(bytes.bytes), std::byte{1});
  const std::vector<float> zeros(8);
  for (const float bad : {infinity, std::nanf("")}) {
    std::vector<float> value(8, 1.0F);
    value[3] = bad;
    table.store_kv_i16({zeros.data(), value.data(), 8, 5, words_memory.data(), words});
    EXPECT_EQ(stored(kFormats[2], words_memory.data(), words, true, 5, 2), 0.0);
    EXPECT_TRUE(std::isnan(stored(kFormats[2], words_memory.data(), words, false, 5, 2)));
    table.store_kv_q8({zeros.data(), value.data(), 8, 5, memory.data(), bytes});
    EXPECT_EQ(stored(kFormats[3], memory.data(), bytes, true, 5, 2), 0.0);
    EXPECT_TRUE(std::isnan(stored(kFormats[3], memory.data(), bytes, false, 5, 2)));
  }
}

TEST_P(AttentionIsa, SpansHaveTheBitsOfTheScalarKernelsInAnyCompany) {
  const KernelTable& table = kernel_table(GetParam());
  const KernelTable& scalar = kernel_table(Isa::kScalar);
  for (const KvFormat& format : kFormats) {
    for (const int head_dim : kHeadDims) {
      const Span span(format, head_dim, scalar);
      const auto stride = static_cast<size_t>(kPartHeader + span.layout.value_stride);
      for (const int n : kQueryCounts) {
        const auto x = random_floats(static_cast<size_t>(n * head_dim), 32, 2.0F);
        std::vector<float> expected(static_cast<size_t>(n) * stride);
        std::vector<float> got(expected.size());
        std::vector<float> alone(expected.size());
        std::vector<float> scratch;
        const auto queries = [&](std::vector<float>& parts) {
          std::vector<SpanQuery> list;
          for (int q = 0; q < n; ++q) {
            // A diagonal, and the edge of a window that some see past.
            const int hi = std::max(1, Span::kPositions - 2 * (n - 1 - q));
            list.push_back({x.data() + q * head_dim, parts.data() + static_cast<size_t>(q) * stride,
                            q % 3 == 2 ? std::min(hi - 1, 61 + q) : 0, hi});
          }
          return list;
        };
        const auto expected_queries = queries(expected);
        (scalar.*format.attend)(span.args(expected_queries, scratch));
        const auto got_queries = queries(got);
        (table.*format.attend)(span.args(got_queries, scratch));
        for (const SpanQuery& query : queries(alone)) {
          const std::vector<SpanQuery> one = {query};
          (table.*format.attend)(span.args(one, scratch));
        }
        for (int q = 0; q < n; ++q) {
          const float* part = expected.data() + static_cast<size_t>(q) * stride;
          const std::string what = std::string(format.name) + " head_dim " + std::to_string(head_dim) + " query " +
                                   std::to_string(q) + " of " + std::to_string(n);
          for (const auto& other : {got, alone}) {
            const float* other_part = other.data() + static_cast<size_t>(q) * stride;
            ASSERT_EQ(std::memcmp(part, other_part, 8), 0) << what;
            ASSERT_EQ(std::memcmp(part + kPartHeader, other_part + kPartHeader,
                                  static_cast<size_t>(span.layout.value_stride) * 4),
                      0)
                << what;
          }
          const SpanQuery& query = expected_queries[static_cast<size_t>(q)];
          double maximum = -1e300;
          std::vector<double> scores;
          for (int pos = query.lo; pos < query.hi; ++pos) {
            double score = 0;
            for (int d = 0; d < head_dim; ++d) score += static_cast<double>(query.query[d]) * span.key(pos, d);
            scores.push_back(score);
            maximum = std::max(maximum, score);
          }
          double sum = 0;
          std::vector<double> values(static_cast<size_t>(head_dim));
          for (int pos = query.lo; pos < query.hi; ++pos) {
            const double weight = std::exp(scores[static_cast<size_t>(pos - query.lo)] - maximum);
            sum += weight;
            for (int d = 0; d < head_dim; ++d) values[static_cast<size_t>(d)] += weight * span.value(pos, d);
          }
          ASSERT_NEAR(static_cast<double>(part[0]), maximum, format.score_error) << what;
          ASSERT_NEAR(static_cast<double>(part[1]), sum, format.value_error * sum) << what;
          for (int d = 0; d < head_dim; ++d) {
            ASSERT_NEAR(static_cast<double>(part[kPartHeader + d]), values[static_cast<size_t>(d)],
                        format.value_error * sum)
                << what;
          }
        }
      }
    }
  }
}

TEST_P(AttentionIsa, MergingIsTheSameWhileComputingAndAfterwards) {
  const KernelTable& table = kernel_table(GetParam());
  const int head_dim = 24;
  const Span span(kFormats[1], head_dim, table);
  const size_t stride = static_cast<size_t>(kPartHeader + span.layout.value_stride);
  std::vector<float> scratch;
  std::vector<float> running(stride);
  std::vector<float> parts(3 * stride);
  std::vector<double> weighted(static_cast<size_t>(head_dim));
  double total = 0;
  const auto x = random_floats(3 * static_cast<size_t>(head_dim), 33, 2.0F);
  for (int i = 0; i < 3; ++i) {
    std::vector<SpanQuery> query = {{x.data() + i * head_dim, running.data(), 0, 100 + i}};
    AttendSpanArgs args = span.args(query, scratch);
    args.accumulates = true;
    table.attend_f16(args);
    query[0].part = parts.data() + static_cast<size_t>(i) * stride;
    args.accumulates = false;
    table.attend_f16(args);
    const double weight = std::exp(static_cast<double>(query[0].part[0]));
    total += weight * static_cast<double>(query[0].part[1]);
    for (int d = 0; d < head_dim; ++d)
      weighted[static_cast<size_t>(d)] += weight * static_cast<double>(query[0].part[kPartHeader + d]);
  }
  std::vector<float> a(static_cast<size_t>(head_dim));
  std::vector<float> b(static_cast<size_t>(head_dim));
  table.merge_spans({running.data(), 0, 1, head_dim, a.data()});
  table.merge_spans({parts.data(), static_cast<int64_t>(stride), 3, head_dim, b.data()});
  EXPECT_EQ(a, b);
  for (int d = 0; d < head_dim; ++d)
    EXPECT_NEAR(static_cast<double>(a[static_cast<size_t>(d)]), weighted[static_cast<size_t>(d)] / total, 1e-6);
}

}  // namespace
}  // namespace mobilellm
