// mobilellm bench: speed of prefill and decode, on a model or on random weights of a shape.
#include <algorithm>
#include <charconv>
#include <chrono>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "backend/registry.h"
#include "base/cpu_features.h"
#include "base/error.h"
#include "base/thread_pool.h"
#include "base/topology.h"
#include "cli/args.h"
#include "cli/build_info.h"
#include "cli/commands/commands.h"
#include "cli/kv_flag.h"
#include "cli/terminal.h"
#include "measure/machine_limits.h"
#include "measure/process_usage.h"
#include "measure/report.h"
#include "measure/roofline_svg.h"
#include "measure/sweep.h"
#include "model/arch/shapes.h"
#include "model/loader.h"
#include "model/random_weights.h"

namespace mobilellm::cli {
namespace {

constexpr int kMaxTokens = 1 << 20;
constexpr int kFirstPrompt = 16;

struct BenchFlags {
  std::string model_path;
  std::string shape;
  std::string format = "q4_0";
  std::string head_format;
  std::string kv;
  std::string prompt_tokens, gen_tokens, depth = "0", batch = "1";
  int64_t shared_prompt = 512;
  int64_t repeat = 5;
  int64_t threads = 0;
  int64_t seed = 0;
  bool exact = false;
  bool no_limits = false;
  bool json = false;
  bool jsonl = false;
  bool csv = false;
  std::string svg;
};

void declare(Args& args, BenchFlags& flags) {
  args.text("--model-path,--model", "PATH", flags.model_path, "model folder or .gguf file");
  args.text("--shape", "NAME", flags.shape, "random weights of this shape: 135m, 140m, 360m, 950m or tiny");
  args.text("--format", "LIST", flags.format,
            "how they are stored: f32, bf16, q8_0, q4_0, affine4g64 ...; several are measured one after the other and "
            "shown side by side (default: q4_0)");
  args.text("--head-format", "F", flags.head_format, "the same of the embedding table and head (default: as --format)");
  args.integer("--seed", "N", flags.seed, 0, std::numeric_limits<int64_t>::max(), "of the random weights and tokens");
  declare_kv(args, flags.kv);
  args.flag("--exact", flags.exact, "multiply quantized weights with f32 activations, as the reference does");
  args.section("tests");
  args.text("--prompt-tokens,-p", "LIST", flags.prompt_tokens, "prefill lengths, such as 512,4096; 0 = none");
  args.text("--gen-tokens,-n", "LIST", flags.gen_tokens, "decode lengths, such as 64; 0 = none");
  args.text("--depth,-d", "LIST", flags.depth, "tokens in the context before each test (default: 0)");
  args.text("--batch,-B", "LIST", flags.batch, "sequences decoded together (default: 1)");
  args.integer("--shared-prompt", "N", flags.shared_prompt, 0, kMaxTokens,
               "tokens that the sequences of a batch share before their own (default: 512)");
  args.integer("--repeat,-r", "N", flags.repeat, 1, 1000, "repetitions of each test (default: 5)");
  args.integer("--threads,-t", "N", flags.threads, 0, 1024, "threads; 0 = every usable core (default)");
  args.flag("--no-limits", flags.no_limits, "do not measure what the machine can do at most");
  args.section("output");
  args.flag("--json", flags.json, "print an array with one JSON object per test");
  args.flag("--jsonl", flags.jsonl, "print one JSON object a line");
  args.flag("--csv", flags.csv, "print comma-separated values");
  args.text("--svg", "FILE", flags.svg, "write a roofline picture of the tests");
  args.example("mobilellm bench --shape 950m --format q4_0 -p 512 -n 64");
  args.example("mobilellm bench --model-path MODEL -n 64 -d 0,4096 -B 1,16");
  args.example("mobilellm bench --shape 140m --format affine2g64,affine4g64,affine8g64");
  args.note(
      "Without -p and -n the tests are 512 and 64. Repetitions of all tests take turns; the middle one counts. GB/s "
      "counts each weight and each visible key and value once per forward pass.");
}

std::vector<int> parse_list(const std::string& text, const char* flag, int min, const Args& args) {
  std::vector<int> values;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(',', begin), text.size());
    int value = 0;
    const auto [stop, error] = std::from_chars(text.data() + begin, text.data() + end, value);
    if (error != std::errc() || stop != text.data() + end || value < min || value > kMaxTokens) {
      args.fail_usage(fmt::format("{}: got '{}', expected integers from {} to {} with commas between", flag, text, min,
                                  kMaxTokens));
    }
    values.push_back(value);
    begin = end + 1;
  }
  return values;
}

// The formats to measure; none for a model, which has its own.
std::vector<std::string> formats_of(const BenchFlags& flags) {
  if (flags.shape.empty()) return {""};
  std::vector<std::string> formats;
  for (size_t begin = 0; begin <= flags.format.size();) {
    const size_t end = std::min(flags.format.find(',', begin), flags.format.size());
    formats.push_back(flags.format.substr(begin, end - begin));
    parse_storage_format(formats.back());
    begin = end + 1;
  }
  return formats;
}

std::vector<SweepTest> make_tests(const BenchFlags& flags, const Args& args) {
  const bool has_none = flags.prompt_tokens.empty() && flags.gen_tokens.empty();
  const auto lengths = [&](const std::string& text, const char* flag, int usual) {
    if (text.empty()) return has_none ? std::vector<int>{usual} : std::vector<int>{};
    std::vector<int> values = parse_list(text, flag, 0, args);
    std::erase(values, 0);
    return values;
  };
  const std::vector<int> prompts = lengths(flags.prompt_tokens, "--prompt-tokens", 512);
  const std::vector<int> generated = lengths(flags.gen_tokens, "--gen-tokens", 64);
  const std::vector<int> depths = parse_list(flags.depth, "--depth", 0, args);
  const std::vector<int> batches = parse_list(flags.batch, "--batch", 1, args);

  std::vector<SweepTest> tests;
  for (const int depth : depths) {
    for (const int n : prompts) tests.push_back({true, n, depth, 1, 0});
  }
  for (const int batch : batches) {
    const int shared = batch > 1 ? static_cast<int>(flags.shared_prompt) : 0;
    for (const int depth : depths) {
      for (const int n : generated) tests.push_back({false, n, depth, batch, shared});
    }
  }
  if (tests.empty()) args.fail_usage("no test is left: --prompt-tokens and --gen-tokens are 0");
  return tests;
}

struct Subject {
  ModelSpec spec;
  ModelWeights weights;
};

std::string format_name(const StoredMatrix& matrix) {
  if (matrix.bits == 0 || std::string_view(matrix.codec->name()) != "affine") return matrix.codec->name();
  return fmt::format("affine{}g{}", matrix.bits, matrix.group_size);
}

// The format that holds most of the blocks' bytes.
std::string main_format(const ModelWeights& weights) {
  std::vector<std::pair<std::string, size_t>> totals;
  for (const LayerWeights& layer : weights.layers) {
    for (const LinearWeights* linear : {&layer.q_proj, &layer.k_proj, &layer.v_proj, &layer.o_proj, &layer.gate_proj,
                                        &layer.up_proj, &layer.down_proj}) {
      const std::string name = format_name(linear->matrix);
      auto found = std::find_if(totals.begin(), totals.end(), [&](const auto& entry) { return entry.first == name; });
      if (found == totals.end()) found = totals.insert(totals.end(), {name, 0});
      found->second += stored_bytes(linear->matrix);
    }
  }
  return std::max_element(totals.begin(), totals.end(),
                          [](const auto& a, const auto& b) { return a.second < b.second; })
      ->first;
}

Subject make_subject(const BenchFlags& flags, const std::string& format, int n_threads) {
  if (!flags.model_path.empty()) {
    LoadedModel model = load_model(flags.model_path);
    return {std::move(model.spec), std::move(model.weights)};
  }
  ModelDescription description = describe_shape(flags.shape);
  RandomWeightsOptions options;
  options.format = parse_storage_format(format);
  options.head_format = parse_storage_format(flags.head_format.empty() ? format : flags.head_format);
  options.seed = static_cast<uint64_t>(flags.seed);
  ThreadPool pool(n_threads);
  ModelWeights weights = make_random_weights(description, options, pool);
  return {std::move(description.spec), std::move(weights)};
}

// The logits after a short prompt on a fresh runner.
void run_first_prompt(Runner& runner) {
  const std::vector<int32_t> tokens(kFirstPrompt, 1);
  std::vector<int32_t> pages;
  while (static_cast<int>(pages.size()) * runner.page_tokens() < kFirstPrompt) {
    pages.push_back(static_cast<int32_t>(pages.size()));
  }
  runner.reserve_pages(static_cast<int>(pages.size()));
  std::vector<float> logits(static_cast<size_t>(runner.spec().vocab_size));
  const SequenceSlice slice{tokens, 0, pages, 1};
  runner.forward({&slice, 1}, logits.data());
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// The machine's limits, measured between the repetitions, since a shared machine's memory changes by the minute.
class LimitsMeter {
 public:
  explicit LimitsMeter(const BenchSubject& subject)
      : n_bytes_(static_cast<size_t>(std::clamp(subject.cost.weight_bytes, kLeastBytes, kMostBytes))),
        n_threads_(subject.n_threads) {
    peak_before_ = peak_memory_bytes();
    constexpr double kSeconds = 0.1;
    limits_.peaks = measure_compute_peaks(select_isa(), n_threads_, kSeconds);
    // With f32 activations nothing else than f32 can be used.
    if (subject.is_exact) std::erase_if(limits_.peaks, [](const ComputePeak& peak) { return peak.kind != "f32"; });
    limits_.peak =
        *std::max_element(limits_.peaks.begin(), limits_.peaks.end(),
                          [](const ComputePeak& a, const ComputePeak& b) { return a.operations < b.operations; });
    limits_.bandwidth_large = measure_read_bandwidth(kLargeBytes, n_threads_, kSeconds);
    // The memory of these measurements is not the model's.
    can_reset_ = reset_peak_memory();
  }

  // Between two rounds.
  void update() {
    if (!can_reset_ && !samples_.empty()) return;
    constexpr double kSeconds = 0.1;
    samples_.push_back(measure_read_bandwidth(n_bytes_, n_threads_, kSeconds));
    reset_peak_memory();
  }
  MachineLimits limits() const {
    MachineLimits limits = limits_;
    limits.bandwidth = median(samples_);
    return limits;
  }
  int64_t peak_before() const { return peak_before_; }

 private:
  static constexpr int64_t kLeastBytes = int64_t{1} << 20;
  static constexpr int64_t kMostBytes = int64_t{1} << 30;
  static constexpr size_t kLargeBytes = size_t{1} << 30;

  size_t n_bytes_;
  int n_threads_;
  int64_t peak_before_ = 0;
  bool can_reset_ = false;
  MachineLimits limits_;
  std::vector<double> samples_;
};

std::vector<BenchRow> measure(Sweep& sweep, BenchSubject& subject, const Runner& runner, const BenchFlags& flags) {
  constexpr int kWarmUpPrefill = 512;
  constexpr int kWarmUpDecode = 4;
  std::vector<BenchRow> rows;
  for (const SweepTest& test : sweep.tests()) {
    BenchRow row;
    row.test = test;
    row.cost = sweep_cost(test, subject.cost, runner.spec(), subject.kv_bytes_per_token, runner.page_tokens());
    rows.push_back(std::move(row));
  }
  ProgressBar bar("measuring");
  const double n_runs = static_cast<double>(rows.size()) * static_cast<double>(flags.repeat + 1);
  double n_done = 0;
  for (const BenchRow& row : rows) {
    sweep.run(row.test, row.test.is_prefill ? kWarmUpPrefill : kWarmUpDecode);
    bar.update(++n_done / n_runs);
  }
  std::optional<LimitsMeter> meter;
  if (!flags.no_limits) meter.emplace(subject);
  // Taking turns, so that a slow minute of the machine is shared by all tests.
  for (int64_t i = 0; i < flags.repeat; ++i) {
    if (meter) meter->update();
    for (BenchRow& row : rows) {
      const CpuUsage usage;
      row.seconds.push_back(sweep.run(row.test, row.test.n_tokens));
      row.others_seconds += usage.others_seconds();
      row.peak_memory_bytes = std::max(peak_memory_bytes(), meter ? meter->peak_before() : 0);
      bar.update(++n_done / n_runs);
    }
  }
  if (meter) {
    meter->update();
    subject.limits = meter->limits();
  }
  return rows;
}

BenchResult measure_format(const BenchFlags& flags, const std::string& format, const std::vector<SweepTest>& tests,
                           KvDtype kv_dtype) {
  BenchResult result;
  BenchSubject& subject = result.subject;
  subject.n_threads = flags.threads > 0 ? static_cast<int>(flags.threads) : usable_cores();
  const auto start = std::chrono::steady_clock::now();
  const auto seconds = [](auto since) {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - since).count();
  };
  Subject model = make_subject(flags, format, subject.n_threads);
  // Making random weights is no part of loading them.
  const auto load_start = flags.shape.empty() ? start : std::chrono::steady_clock::now();
  subject.shape = flags.shape;
  subject.model = flags.model_path;
  subject.cost = model_cost(model.weights);
  subject.n_params = parameter_count(model.spec);
  subject.format = main_format(model.weights);
  subject.head_format =
      format_name(model.weights.lm_head.rows > 0 ? model.weights.lm_head : model.weights.embed_tokens);
  subject.kv = !flags.kv.empty() ? flags.kv : flags.exact ? "f32" : "i16";
  subject.is_exact = flags.exact;
  subject.isa = isa_name(select_isa());
  subject.cpu = cpu_name();
  subject.version = MOBILELLM_VERSION;
  subject.commit = build_commit();

  RunnerOptions options;
  options.n_threads = subject.n_threads;
  options.kv_dtype = kv_dtype;
  options.is_exact = flags.exact;
  const std::unique_ptr<Runner> runner = create_runner("cpu", model.spec, std::move(model.weights), options);
  subject.load_s = seconds(load_start);
  run_first_prompt(*runner);
  subject.first_token_s = seconds(load_start);
  subject.kv_bytes_per_token = runner->kv_bytes_per_token();

  Sweep sweep(*runner, tests, static_cast<uint64_t>(flags.seed));
  result.rows = measure(sweep, subject, *runner, flags);
  return result;
}

// One of several results, as soon as it is there.
void print_result(const BenchFlags& flags, const BenchResult& result, bool is_first, bool is_last) {
  std::string out;
  if (flags.csv) {
    out = rows_csv(result.subject, result.rows, is_first);
  } else if (flags.json || flags.jsonl) {
    if (flags.json && is_first) out = "[";
    for (const BenchRow& row : result.rows) {
      if (flags.json) out += is_first && &row == &result.rows.front() ? "\n" : ",\n";
      out += row_json(result.subject, row).dump(true) + (flags.jsonl ? "\n" : "");
    }
    if (flags.json && is_last) out += "\n]\n";
  } else {
    out = (is_first ? "" : "\n") + printable(rows_text(result.subject, result.rows));
  }
  print(out);
  for (const BenchRow& row : result.rows) {
    constexpr double kQuiet = 0.05;
    if (row.others_share() <= kQuiet) continue;
    print_status(fmt::format("mobilellm: note: during {} others took {:.0f}% of the machine's processor time\n",
                             row.test.name(), 100 * row.others_share()));
  }
}

}  // namespace

int run_bench(int argc, const char* const* argv) {
  BenchFlags flags;
  Args args("bench", "Measures the speed of prefill and decode.", "(--model-path PATH | --shape NAME) [flags]");
  declare(args, flags);
  if (!args.parse(argc, argv)) return 0;
  if (flags.model_path.empty() == flags.shape.empty()) {
    args.fail_usage("expected one of --model-path and --shape");
  }
  if (int{flags.json} + int{flags.jsonl} + int{flags.csv} > 1) {
    args.fail_usage("--json, --jsonl and --csv exclude each other");
  }
  if (!flags.svg.empty() && flags.no_limits) args.fail_usage("--svg draws the limits that --no-limits leaves out");
  const std::vector<SweepTest> tests = make_tests(flags, args);
  const KvDtype kv_dtype = parse_kv(args, flags.kv);
  const std::vector<std::string> formats = formats_of(flags);
  if (!flags.svg.empty() && formats.size() > 1) args.fail_usage("--svg draws one format, not several");

  std::vector<BenchResult> results;
  for (const std::string& format : formats) {
    results.push_back(measure_format(flags, format, tests, kv_dtype));
    print_result(flags, results.back(), results.size() == 1, results.size() == formats.size());
  }
  if (results.size() > 1 && !flags.csv && !flags.json && !flags.jsonl) print("\n" + formats_text(results));
  if (!flags.svg.empty()) write_file(flags.svg, roofline_svg(results.front().subject, results.front().rows));
  return 0;
}

}  // namespace mobilellm::cli
