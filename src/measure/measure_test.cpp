// Costs, pages and reports of the speed tests, on tiny random weights.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <set>
#include <thread>

#include "backend/registry.h"
#include "base/error.h"
#include "measure/machine_facts.h"
#include "measure/machine_limits.h"
#include "measure/process_usage.h"
#include "measure/report.h"
#include "measure/roofline_svg.h"
#include "measure/sweep.h"
#include "model/arch/shapes.h"
#include "model/random_weights.h"
#include "tests/support/tested_isas.h"

namespace mobilellm {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

ModelWeights tiny_weights(const char* format, int n_threads = 2, uint64_t seed = 1) {
  ThreadPool pool(n_threads);
  return make_random_weights(describe_shape("tiny"), {parse_storage_format(format), parse_storage_format(format), seed},
                             pool);
}

TEST(SweepCost, CountsWeightsKeysAndOperations) {
  const ModelSpec spec = describe_shape("tiny").spec;  // 2 layers, 4 heads and 2 KV heads of 32, d_model 128, d_ff 256
  const ModelCost model = model_cost(tiny_weights("bf16"));
  const int64_t block = 2 * (128 * 128 * 2 + 128 * 64 * 2 + 128 * 256 * 3);
  EXPECT_EQ(model.block_parameters, block);
  EXPECT_EQ(model.head_parameters, 512 * 128);
  EXPECT_EQ(model.weight_bytes, 2 * (block + 512 * 128));

  const size_t kv = 2 * 2 * 2 * 32 * 4;  // layers, keys and values, KV heads, head_dim, f32
  // Two steps at depth 10: 11 and 12 visible positions.
  const SweepCost decode = sweep_cost({false, 2, 10, 1, 0}, model, spec, kv, 64);
  EXPECT_DOUBLE_EQ(decode.weight_bytes, 2.0 * static_cast<double>(model.weight_bytes));
  EXPECT_DOUBLE_EQ(decode.kv_bytes, 23.0 * kv);
  EXPECT_DOUBLE_EQ(decode.operations, 2.0 * 2 * static_cast<double>(block + 512 * 128) + 2.0 * 4 * 4 * 32 * 23);

  // Three sequences share one whole page of a prompt of 70: 64 positions once, the other 7 of each.
  const SweepCost batch = sweep_cost({false, 1, 0, 3, 70}, model, spec, kv, 64);
  EXPECT_DOUBLE_EQ(batch.kv_bytes, (64.0 + 3 * 7) * kv);
  EXPECT_DOUBLE_EQ(batch.weight_bytes, static_cast<double>(model.weight_bytes));

  // Logits of the last token only.
  const SweepCost prefill = sweep_cost({true, 3, 0, 1, 0}, model, spec, kv, 64);
  EXPECT_DOUBLE_EQ(prefill.operations,
                   2.0 * (3 * static_cast<double>(block) + 512 * 128) + 2.0 * 4 * 4 * 32 * (1 + 2 + 3));
}

TEST(SweepTest, Names) {
  EXPECT_EQ((SweepTest{true, 512, 0, 1, 0}.name()), "pp512");
  EXPECT_EQ((SweepTest{false, 64, 4096, 1, 0}.name()), "tg64@4096");
  EXPECT_EQ((SweepTest{false, 64, 0, 16, 512}.name()), "tg64x16");
  EXPECT_EQ((SweepTest{false, 64, 100, 16, 512}.name()), "tg64x16@100");
}

// Earlier positions must be whatever the cost says, so a runner checks the slices it gets.
class CheckingRunner final : public Runner {
 public:
  const ModelSpec& spec() const override { return spec_; }
  int page_tokens() const override { return 64; }
  size_t kv_bytes_per_token() const override { return 1; }
  void reserve_pages(int n_pages) override { filled_.resize(static_cast<size_t>(n_pages)); }
  void copy_page(int from, int to) override { filled_[static_cast<size_t>(to)] = filled_[static_cast<size_t>(from)]; }
  void forward(std::span<const SequenceSlice> batch, float*) override {
    for (const SequenceSlice& slice : batch) {
      for (int64_t pos = 0; pos < slice.start_pos; ++pos) {
        ASSERT_TRUE(filled_.at(page(slice, pos)).count(pos % 64)) << "position " << pos << " was never computed";
      }
      for (size_t i = 0; i < slice.tokens.size(); ++i) {
        const int64_t pos = slice.start_pos + static_cast<int64_t>(i);
        filled_.at(page(slice, pos)).insert(pos % 64);
        written.emplace(&slice - batch.data(), page(slice, pos));
      }
    }
    last_batch = batch.size();
    last_pos = batch[0].start_pos;
  }
  static size_t page(const SequenceSlice& slice, int64_t pos) {
    return static_cast<size_t>(slice.pages[static_cast<size_t>(pos / 64)]);
  }
  std::set<std::pair<ptrdiff_t, size_t>> written;  // By sequence.
  size_t last_batch = 0;
  int64_t last_pos = 0;

 private:
  ModelSpec spec_ = describe_shape("tiny").spec;
  std::vector<std::set<int64_t>> filled_;
};

TEST(Sweep, StartsWhereTheTestSaysAndSequencesWriteToPagesOfTheirOwn) {
  CheckingRunner runner;
  const std::vector<SweepTest> tests = {
      {true, 70, 0, 1, 0},   {true, 10, 1000, 1, 0},  {false, 3, 1000, 1, 0},
      {false, 5, 0, 4, 100}, {false, 5, 130, 4, 512},
  };
  Sweep sweep(runner, tests, 1);
  for (const SweepTest& test : tests) {
    runner.written.clear();
    EXPECT_GT(sweep.run(test, test.n_tokens), 0);
    EXPECT_EQ(runner.last_batch, static_cast<size_t>(test.n_sequences));
    EXPECT_EQ(runner.last_pos, test.depth + test.shared_prompt + (test.is_prefill ? 0 : test.n_tokens - 1));
    std::map<size_t, std::set<ptrdiff_t>> writers;
    for (const auto& [sequence, page] : runner.written) writers[page].insert(sequence);
    for (const auto& [page, sequences] : writers) EXPECT_EQ(sequences.size(), 1u) << test.name() << " page " << page;
  }
}

TEST(RandomWeights, EveryFormatGivesFiniteLogitsOfTheSameSize) {
  for (const char* format :
       {"f32", "f16", "bf16", "f8_e4m3", "f8_e5m2", "q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "iq4_nl", "mxfp4_gguf",
        "affine4", "affine8g32", "affine3g128", "mxfp4", "nvfp4", "mxfp8"}) {
    RunnerOptions options;
    options.n_threads = 1;
    const auto runner = create_runner("cpu", describe_shape("tiny").spec, tiny_weights(format), options);
    runner->reserve_pages(1);
    const std::vector<int32_t> tokens = {1, 5, 9};
    const std::vector<int32_t> pages = {0};
    std::vector<float> logits(512);
    const SequenceSlice slice{tokens, 0, pages, 1};
    runner->forward({&slice, 1}, logits.data());
    double squares = 0;
    for (const float value : logits) squares += double{value} * value;
    const double rms = std::sqrt(squares / 512);
    EXPECT_GT(rms, 0.4) << format;
    EXPECT_LT(rms, 2.0) << format;
  }
}

TEST(RandomWeights, SeedDecidesAndThreadsDoNot) {
  for (const char* format : {"q4_0", "affine4g32"}) {
    const auto bytes = [](const ModelWeights& weights) {
      std::vector<std::byte> all;
      for (const TensorView& tensor : weights.source->tensors()) {
        all.insert(all.end(), tensor.data.begin(), tensor.data.end());
      }
      return all;
    };
    const std::vector<std::byte> first = bytes(tiny_weights(format, 1, 7));
    EXPECT_EQ(bytes(tiny_weights(format, 3, 7)), first);
    EXPECT_NE(bytes(tiny_weights(format, 1, 8)), first);
  }
}

TEST(RandomWeights, KQuantsHaveTheWantedSpread) {
  for (const char* name : {"q2_k", "q3_k", "q4_k", "q5_k", "q6_k", "iq4_xs"}) {
    const StorageFormat format = parse_storage_format(name);
    const RandomValues values(format, 0.02F, 3);
    std::vector<std::byte> data(format.data_bytes(64, 1024));
    values.fill_data(data, 5);
    TensorView view;
    view.dtype = format.dtype;
    view.shape = {64, 1024};
    view.data = data;
    double sum = 0;
    double squares = 0;
    for (const float value : decode_tensor(view)) {
      sum += value;
      squares += double{value} * value;
    }
    EXPECT_NEAR(sum / 65536, 0, 0.001) << name;
    EXPECT_NEAR(std::sqrt(squares / 65536), 0.02, 0.002) << name;
  }
}

TEST(RandomWeights, RefusesRowsThatDoNotDivideAndUnknownNames) {
  const auto message = [](auto&& action) -> std::string {
    try {
      action();
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
      return error.what();
    }
    return "";
  };
  EXPECT_THAT(message([] { tiny_weights("q4_k"); }), HasSubstr("rows of 128 values do not divide into blocks of 256"));
  EXPECT_THAT(message([] { parse_storage_format("q4_9"); }), HasSubstr("q4_0"));
  EXPECT_THAT(message([] { parse_storage_format("affine4g65"); }), HasSubstr("65"));
  EXPECT_THAT(message([] { parse_storage_format("affine"); }), HasSubstr("unknown weight format"));
  EXPECT_THAT(message([] { describe_shape("7b"); }), HasSubstr("950m"));
}

BenchRow sample_row() {
  BenchRow row;
  row.test = {false, 64, 4096, 1, 0};
  row.cost = {64e9, 0, 128e9};
  row.seconds = {4.0, 1.0, 2.0};
  row.peak_memory_bytes = 5000000;
  return row;
}

TEST(Report, JsonHasMedianSpreadAndShares) {
  BenchSubject subject;
  subject.shape = "950m";
  subject.limits = MachineLimits{64e9, 60e9, {"int8", "x", 256e9}, {}};
  const Json json = row_json(subject, sample_row());
  EXPECT_EQ(json.find("test")->as_string(), "tg64@4096");
  EXPECT_EQ(json.find("shape")->as_string(), "950m");
  EXPECT_DOUBLE_EQ(json.find("tps")->as_double(), 32);
  EXPECT_DOUBLE_EQ(json.find("tps_min")->as_double(), 16);
  EXPECT_DOUBLE_EQ(json.find("tps_max")->as_double(), 64);
  EXPECT_DOUBLE_EQ(json.find("gb_per_s")->as_double(), 32);
  EXPECT_DOUBLE_EQ(json.find("share_of_bandwidth")->as_double(), 0.5);
  EXPECT_DOUBLE_EQ(json.find("share_of_peak")->as_double(), 0.25);
  EXPECT_DOUBLE_EQ(json.find("peak_memory_mb")->as_double(), 5);
  BenchRow busy = sample_row();
  busy.others_seconds = 7;
  EXPECT_DOUBLE_EQ(busy.others_share(), std::min(1.0, 1.0 / std::thread::hardware_concurrency()));
  busy.seconds = {0.01};
  EXPECT_EQ(busy.others_share(), 0);
  subject.limits.reset();
  EXPECT_TRUE(row_json(subject, sample_row()).find("share_of_peak")->is_null());
}

TEST(Report, CsvHasOneLineARowAndQuotesCommas) {
  BenchSubject subject;
  subject.model = "a,b";
  const std::string csv = rows_csv(subject, {sample_row(), sample_row()});
  EXPECT_THAT(csv, StartsWith("test,model,format,"));
  EXPECT_EQ(std::count(csv.begin(), csv.end(), '\n'), 3);
  EXPECT_THAT(csv, HasSubstr("\ntg64@4096,\"a,b\","));
}

// Places of the circles' attribute.
std::vector<double> circle_values(const std::string& svg, const std::string& attribute) {
  std::vector<double> values;
  for (size_t at = svg.find("<circle"); at != std::string::npos; at = svg.find("<circle", at + 1)) {
    const size_t begin = svg.find(attribute + "=\"", at) + attribute.size() + 2;
    values.push_back(std::stod(svg.substr(begin, 20)));
  }
  return values;
}

TEST(RooflineSvg, HasARoofForEachLimitAndAPointForEachRow) {
  BenchSubject subject;
  subject.model = "models/a<b&c";
  subject.format = subject.head_format = "q4_0";
  subject.kv = "f16";
  const ComputePeak fast = {"int8", "dot", 2e12};
  subject.limits = MachineLimits{64e9, 60e9, fast, {{"f32", "fma", 5e11}, fast}};
  BenchRow decode = sample_row();  // 2 operations a byte at 64 Gop/s
  BenchRow slower = sample_row();
  slower.seconds = {20.0};  // Straight below.
  BenchRow prefill = sample_row();
  prefill.test = {true, 512, 0, 1, 0};
  prefill.cost.operations = 128e12;
  const std::string svg = roofline_svg(subject, {decode, slower, prefill});
  EXPECT_THAT(svg, StartsWith("<svg "));
  EXPECT_THAT(svg, ::testing::EndsWith("</svg>\n"));
  for (const char* text : {"a&lt;b&amp;c", "64.0 GB/s", "int8 2.00 Top/s", "f32 500 Gop/s", "tg64@4096  32.0 tok/s",
                           "pp512", "operations per byte"}) {
    EXPECT_THAT(svg, HasSubstr(text));
  }
  const std::vector<double> x = circle_values(svg, "cx");
  const std::vector<double> y = circle_values(svg, "cy");
  ASSERT_EQ(x.size(), 3u);
  // Drawn from the top down: prefill, decode, slower.
  EXPECT_GT(x[0], x[1]);
  EXPECT_EQ(x[1], x[2]);
  EXPECT_LT(y[0], y[1]);
  EXPECT_LT(y[1], y[2]);
}

TEST(MachineLimits, AreMeasuredForEveryInstructionSet) {
  for (const Isa isa : tested_isas()) {
    const std::vector<ComputePeak> peaks = measure_compute_peaks(isa, 2, 0.01);
    ASSERT_FALSE(peaks.empty());
    for (const ComputePeak& peak : peaks) {
      EXPECT_GT(peak.operations, 1e8) << peak.instruction;
      EXPECT_TRUE(peak.kind == "f32" || peak.kind == "bf16" || peak.kind == "int8") << peak.kind;
    }
  }
  const size_t n_bytes = size_t{8} << 20;
  EXPECT_GT(measure_read_bandwidth(n_bytes, 2, 0.01), 1e8);
  EXPECT_EQ(measure_read_bandwidth(size_t{1} << 62, 1, 0.01), 0);
}

TEST(SpeedAdvice, NamesWhatHoldsAMachineBack) {
  MachineFacts facts;
  facts.isas = {Isa::kScalar, Isa::kAvx2};
  facts.huge_pages = "madvise";
  facts.gets_huge_pages = true;
  facts.cores = {8, 8, 0};
  facts.available_bytes = int64_t{8} << 30;
  EXPECT_THAT(speed_advice(facts), ::testing::IsEmpty());

  facts.huge_pages = "never";
  facts.gets_huge_pages = false;
  facts.cores = {8, 4, 2};
  facts.isa_wanted = "scalar";
  facts.governor = "powersave";
  facts.others_share = 0.5;
  facts.available_bytes = 100000000;
  EXPECT_THAT(speed_advice(facts),
              ::testing::ElementsAre(HasSubstr("huge pages are off"), HasSubstr("4 of 8 cores"),
                                     HasSubstr("2 of 4 cores"), HasSubstr("MOBILELLM_ISA=scalar"),
                                     HasSubstr("powersave"), HasSubstr("50%"), HasSubstr("100 MB")));
  facts.isas = {Isa::kScalar};
  facts.huge_pages = "always";
  EXPECT_THAT(speed_advice(facts), ::testing::AllOf(::testing::Contains(HasSubstr("too fragmented")),
                                                    ::testing::Contains(HasSubstr("no vector kernels")),
                                                    ::testing::Not(::testing::Contains(HasSubstr("MOBILELLM_ISA")))));
}

TEST(MachineFacts, OfThisMachineAreConsistent) {
  const MachineFacts facts = machine_facts(0.02);
  EXPECT_GE(facts.usable_cores, 1);
  EXPECT_LE(facts.usable_cores, facts.cores.allowed);
  EXPECT_LE(facts.cores.allowed, facts.cores.present);
  EXPECT_GT(facts.memory_bytes, facts.available_bytes);
  EXPECT_EQ(facts.isas.front(), Isa::kScalar);
  EXPECT_FALSE(facts.system.empty());
  EXPECT_GE(facts.others_share, 0);
  EXPECT_LE(facts.others_share, 1);
}

TEST(ProcessUsage, PeakFollowsMemoryAndResets) {
  const int64_t before = peak_memory_bytes();
  EXPECT_GT(before, 0);
  constexpr size_t kBytes = size_t{64} << 20;
  // Not from the heap: sanitizers keep freed blocks for a while.
  void* memory = mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(memory, MAP_FAILED);
  std::memset(memory, 1, kBytes);
  munmap(memory, kBytes);
  const int64_t peak = peak_memory_bytes();
  EXPECT_GT(peak, before + static_cast<int64_t>(kBytes / 2));
  if (!reset_peak_memory()) GTEST_SKIP() << "this system cannot reset the peak";
  EXPECT_LT(peak_memory_bytes(), peak - static_cast<int64_t>(kBytes / 2));
}

}  // namespace
}  // namespace mobilellm
