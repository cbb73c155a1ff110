// One benchmark per line of kernels.inc and instruction set that this processor has, on the sizes of a 950M model.
//
// kernels_bench --benchmark_filter=panel_product
#include <benchmark/benchmark.h>

#include <string>
#include <string_view>
#include <vector>

#include "base/huge_memory.h"
#include "base/random.h"
#include "kernels/kernels.h"
#include "kernels/panels.h"

namespace mobilellm {
namespace {

constexpr int kCols = 1536;
constexpr int kRows = 512;
constexpr int kHeadDim = 64;
constexpr int kTokens[] = {1, 16, 64};  // Of the products: decode, a batch, prefill.

struct Counts {
  double bytes = 0;       ///< Read by one call.
  double operations = 0;  ///< A multiplication and an addition are two; 0 when nobody counts them.
};

/// Arguments of one call, with the memory behind them. Each argument struct of kernels.h has its own; a kernel with a
/// new one does not compile here until it has. `n_tokens` is one of kTokens, or 1 where kHasTokens is false.
template <typename Args>
struct Work;

std::vector<float> random_floats(size_t n) {
  std::vector<float> values(n);
  for (size_t i = 0; i < n; ++i) values[i] = static_cast<float>(random_uniform(1, n, i)) - 0.5F;
  return values;
}

size_t row_bytes_of(std::string_view kernel) {
  if (kernel.ends_with("_f32")) return kCols * 4;
  if (kernel.ends_with("_q8_0")) return kCols / 32 * 34;
  if (kernel.ends_with("_q4_0")) return kCols / 32 * 18;
  if (kernel.ends_with("_q4_1")) return kCols / 32 * 20;
  return kCols * 2;
}

KvLayout kv_layout_of(std::string_view kernel) {
  const int n_bytes = kernel.ends_with("_f32") ? 4 : kernel.ends_with("16") ? 2 : 1;
  return kv_layout(kHeadDim, n_bytes, !kernel.ends_with("_f32") && !kernel.ends_with("_f16"));
}

template <>
struct Work<DotRowsArgs> {
  static constexpr bool kHasTokens = true;
  Work(std::string_view kernel, int n_tokens)
      : row_bytes(row_bytes_of(kernel)),
        weights(kRows * row_bytes),
        x(random_floats(static_cast<size_t>(n_tokens) * kCols)),
        y(static_cast<size_t>(n_tokens) * kRows),
        scratch(size_t{kRows} * kCols) {
    args = {weights.data(), row_bytes, kRows, kCols,   x.data(),      kCols,
            n_tokens,       y.data(),  kRows, nullptr, scratch.data()};
    counts = {static_cast<double>(weights.size()), 2.0 * kRows * kCols * n_tokens};
  }
  size_t row_bytes;
  std::vector<std::byte> weights;  // Zeros: as fast as any others.
  std::vector<float> x, y, scratch;
  DotRowsArgs args{};
  Counts counts;
};

struct Quantized {
  explicit Quantized(int n_tokens)
      : codes(static_cast<size_t>(n_tokens) * kCols, 3),
        numbers(static_cast<size_t>(n_tokens) * kStrips, {0.01F, -1.28F, 0.5F, {0.25F, 0.25F}}) {
    rows = {codes.data(), numbers.data(), kStrips};
  }
  static constexpr int kStrips = kCols / kStripCols;
  std::vector<uint8_t> codes;
  std::vector<StripNumbers> numbers;
  QuantizedRows rows{};
};

template <>
struct Work<QuantizeRowsArgs> {
  static constexpr bool kHasTokens = true;
  Work(std::string_view /*kernel*/, int n_tokens)
      : x(random_floats(static_cast<size_t>(n_tokens) * kCols)), out(n_tokens) {
    args = {x.data(), kCols, n_tokens, kCols, out.rows};
    counts = {static_cast<double>(x.size()) * 4, 0};
  }
  std::vector<float> x;
  Quantized out;
  QuantizeRowsArgs args{};
  Counts counts;
};

// 4 bits with an f16 scale per 32 values, as Q4_0 becomes.
template <>
struct Work<PanelProductArgs> {
  static constexpr bool kHasTokens = true;
  Work(std::string_view /*kernel*/, int n_tokens) : x(n_tokens), y(static_cast<size_t>(n_tokens) * kRows) {
    layout.rows = kRows;
    layout.cols = kCols;
    layout.code_range = CodeRange::kWithin16;
    for (int i = 0; i < 16; ++i) layout.table[i] = static_cast<int8_t>(i - 8);
    layout.set_sizes();
    panels = HugeMemory(layout.panel_bytes * static_cast<size_t>(layout.n_panels()), "panels");
    scratch = HugeMemory(kPanelScratchBytes, "scratch");
    args = {&layout, panels.data(), static_cast<int>(layout.n_panels()), kRows, x.rows, n_tokens, y.data(), kRows,
            nullptr, scratch.data()};
    counts = {static_cast<double>(panels.size()), 2.0 * kRows * kCols * n_tokens};
  }
  PanelLayout layout;
  HugeMemory panels, scratch;
  Quantized x;
  std::vector<float> y;
  PanelProductArgs args{};
  Counts counts;
};

template <>
struct Work<RmsNormArgs> {
  static constexpr bool kHasTokens = false;
  Work(std::string_view /*kernel*/, int /*n_tokens*/) : x(random_floats(kCols)), weight(x), y(x) {
    args = {x.data(), weight.data(), y.data(), kCols, 1e-5F};
    counts = {kCols * 8, 0};
  }
  std::vector<float> x, weight, y;
  RmsNormArgs args{};
  Counts counts;
};

template <>
struct Work<GatedActivationArgs> {
  static constexpr bool kHasTokens = false;
  Work(std::string_view /*kernel*/, int /*n_tokens*/) : gate(random_floats(kCols)), up(gate), out(gate) {
    args = {gate.data(), up.data(), out.data(), kCols};
    counts = {kCols * 8, 0};
  }
  std::vector<float> gate, up, out;
  GatedActivationArgs args{};
  Counts counts;
};

template <>
struct Work<AddArgs> {
  static constexpr bool kHasTokens = false;
  Work(std::string_view /*kernel*/, int /*n_tokens*/) : x(kCols, 0.0F), y(random_floats(kCols)) {
    args = {x.data(), y.data(), kCols};
    counts = {kCols * 8, kCols};
  }
  std::vector<float> x, y;
  AddArgs args{};
  Counts counts;
};

// Four heads share a KV head: one token, or as many as fit.
template <>
struct Work<AttendSpanArgs> {
  static constexpr bool kHasTokens = true;
  Work(std::string_view kernel, int n_tokens)
      : layout(kv_layout_of(kernel)),
        n_queries(std::min(kMaxQueries, 4 * n_tokens)),
        kv(static_cast<size_t>(layout.bytes) * kSpanPages),
        query(random_floats(kHeadDim)),
        part_floats(static_cast<size_t>(kPartHeader + layout.value_stride)),
        parts(part_floats * static_cast<size_t>(n_queries)),
        scratch(static_cast<size_t>(attend_scratch_floats(n_queries, layout.value_stride))) {
    for (int i = 0; i < n_queries; ++i) {
      queries.push_back({query.data(), parts.data() + static_cast<size_t>(i) * part_floats, 0, kSpanTokens});
    }
    for (int i = 0; i < kSpanPages; ++i) pages[i] = i;
    args = {queries.data(), n_queries, pages,   kv.data(), layout.bytes, kHeadDim, layout,
            scratch.data(), nullptr,   nullptr, 0,         false};
    counts = {static_cast<double>(kv.size()), 4.0 * kHeadDim * kSpanTokens * n_queries};
  }
  KvLayout layout;
  int n_queries;
  std::vector<std::byte> kv;
  std::vector<float> query;
  size_t part_floats;
  std::vector<float> parts, scratch;
  std::vector<SpanQuery> queries;
  int32_t pages[kSpanPages] = {};
  AttendSpanArgs args{};
  Counts counts;
};

template <>
struct Work<MergeSpansArgs> {
  static constexpr bool kHasTokens = false;
  static constexpr int kParts = 8;
  static constexpr int64_t kStride = kPartHeader + kHeadDim;
  Work(std::string_view /*kernel*/, int /*n_tokens*/) : parts(size_t{kParts} * kStride, 1.0F), out(kHeadDim) {
    args = {parts.data(), kStride, kParts, kHeadDim, out.data()};
    counts = {kParts * kStride * 4, 0};
  }
  std::vector<float> parts, out;
  MergeSpansArgs args{};
  Counts counts;
};

template <>
struct Work<StoreKvArgs> {
  static constexpr bool kHasTokens = false;
  Work(std::string_view kernel, int /*n_tokens*/)
      : layout(kv_layout_of(kernel)), key(random_floats(kHeadDim)), kv(static_cast<size_t>(layout.bytes)) {
    args = {key.data(), key.data(), kHeadDim, 7, kv.data(), layout};
    counts = {kHeadDim * 8, 0};
  }
  KvLayout layout;
  std::vector<float> key;
  std::vector<std::byte> kv;
  StoreKvArgs args{};
  Counts counts;
};

// A tile of a product over 256 columns, as training's products cut it.
template <>
struct Work<ProductTileArgs> {
  static constexpr bool kHasTokens = false;
  static constexpr int64_t kDepth = 256;
  Work(std::string_view /*kernel*/, int /*n_tokens*/)
      : a(random_floats(kDepth * kTileRows)), b(random_floats(kDepth * kTileCols)), c(size_t{kTileRows} * kTileCols) {
    args = {a.data(), b.data(), kDepth, c.data(), kTileCols, kTileRows, kTileCols, false};
    counts = {static_cast<double>(a.size() + b.size()) * 4, 2.0 * kDepth * kTileRows * kTileCols};
  }
  std::vector<float> a, b, c;
  ProductTileArgs args{};
  Counts counts;
};

// The starts of a fit over one group.
template <>
struct Work<GridSumsArgs> {
  static constexpr bool kHasTokens = false;
  static constexpr int kValues = 64;
  static constexpr int kLines = 25;
  Work(std::string_view /*kernel*/, int /*n_tokens*/)
      : x(random_floats(kValues)), weights(x), lines(kLines, {0.1F, -0.5F, 0.0F}), sums(kLines) {
    args = {x.data(), weights.data(), kValues, 0.0F, 15.0F, lines.data(), kLines, sums.data()};
    counts = {kValues * 8, 11.0 * kValues * kLines};
  }
  std::vector<float> x, weights;
  std::vector<GridLine> lines;
  std::vector<GridSums> sums;
  GridSumsArgs args{};
  Counts counts;
};

template <>
struct Work<GridErrorsArgs> {
  static constexpr bool kHasTokens = false;
  static constexpr int kValues = 64;
  static constexpr int kLines = 25;
  Work(std::string_view /*kernel*/, int /*n_tokens*/)
      : x(random_floats(kValues)), weights(x), lines(kLines, {0.1F, -0.5F, 0.0F}), errors(kLines) {
    args = {x.data(), weights.data(), kValues, 0.0F, 15.0F, lines.data(), kLines, errors.data()};
    counts = {kValues * 8, 10.0 * kValues * kLines};
  }
  std::vector<float> x, weights;
  std::vector<GridLine> lines;
  std::vector<float> errors;
  GridErrorsArgs args{};
  Counts counts;
};

template <>
struct Work<SoftmaxArgs> {
  static constexpr bool kHasTokens = false;
  Work(std::string_view /*kernel*/, int /*n_tokens*/) : x(random_floats(kCols)), y(kCols) {
    args = {x.data(), y.data(), kCols, 1.0F, nullptr};
    counts = {kCols * 8, 0};
  }
  std::vector<float> x, y;
  SoftmaxArgs args{};
  Counts counts;
};

template <>
struct Work<SoftmaxDifferenceArgs> {
  static constexpr bool kHasTokens = false;
  Work(std::string_view /*kernel*/, int /*n_tokens*/) : teacher(random_floats(kCols)), student(kCols) {
    args = {teacher.data(), student.data(), kCols, 1.0F, 1.0F, sums};
    counts = {kCols * 12, 0};
  }
  std::vector<float> teacher, student;
  float sums[5] = {};
  SoftmaxDifferenceArgs args{};
  Counts counts;
};

template <>
struct Work<GatedBackwardArgs> {
  static constexpr bool kHasTokens = false;
  Work(std::string_view /*kernel*/, int /*n_tokens*/)
      : gate(random_floats(kCols)), up(gate), d_out(gate), d_gate(kCols), d_up(kCols) {
    args = {gate.data(), up.data(), d_out.data(), d_gate.data(), d_up.data(), kCols};
    counts = {kCols * 20, 0};
  }
  std::vector<float> gate, up, d_out, d_gate, d_up;
  GatedBackwardArgs args{};
  Counts counts;
};

template <typename Args>
void run(benchmark::State& state, void (*kernel)(const Args&) noexcept, const char* name, int n_tokens) {
  Work<Args> work(name, n_tokens);
  for (auto _ : state) {
    kernel(work.args);
    benchmark::ClobberMemory();
  }
  const auto per_second = [&](double amount) {
    return benchmark::Counter(amount * static_cast<double>(state.iterations()), benchmark::Counter::kIsRate,
                              benchmark::Counter::kIs1000);
  };
  state.counters["bytes/s"] = per_second(work.counts.bytes);
  if (work.counts.operations > 0) state.counters["ops/s"] = per_second(work.counts.operations);
}

template <typename Args>
void add(const char* name, Isa isa, void (*kernel)(const Args&) noexcept) {
  for (const int n_tokens : kTokens) {
    if (n_tokens > 1 && !Work<Args>::kHasTokens) break;
    std::string title = std::string(name) + "/" + isa_name(isa);
    if (Work<Args>::kHasTokens) title += "/" + std::to_string(n_tokens);
    benchmark::RegisterBenchmark(title.c_str(), [=](benchmark::State& state) { run(state, kernel, name, n_tokens); });
  }
}

void add_all() {
  for (const Isa isa : supported_isas()) {
    const KernelTable& table = kernel_table(isa);
#define MOBILELLM_KERNEL(name, Args) add<Args>(#name, isa, table.name);
#include "kernels/kernels.inc"
#undef MOBILELLM_KERNEL
  }
}

}  // namespace
}  // namespace mobilellm

int main(int argc, char** argv) {
  mobilellm::add_all();
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
