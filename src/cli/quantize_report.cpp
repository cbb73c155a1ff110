// Measurements of a quantized model beside its source.
#include "cli/quantize_report.h"

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>

#include "backend/registry.h"
#include "base/error.h"
#include "base/files.h"
#include "base/output_file.h"
#include "base/topology.h"
#include "cli/build_info.h"
#include "cli/measure_flags.h"
#include "cli/terminal.h"
#include "measure/sweep.h"
#include "pipeline/pipeline.h"
#include "quality/html_report.h"
#include "quality/measured_model.h"
#include "quality/sample_text.h"

namespace mobilellm::cli {
namespace {

constexpr int64_t kChunks = 8;  // Of each text, so that a report takes minutes at most.
constexpr int64_t kAnswerTokens = 96;
constexpr int kRuns = 3;

std::string json_path(const std::string& html_path) {
  return html_path.substr(0, html_path.size() - std::string_view(".html").size()) + ".json";
}

// Bytes of each matrix in the target, with what belongs to it.
std::map<std::string, uint64_t> matrix_bytes(const WeightSource& source) {
  std::map<std::string, uint64_t> bytes;
  for (const TensorView& tensor : source.tensors()) {
    std::string name = tensor.name;
    for (const std::string_view end : {".scales", ".biases"}) {
      if (name.ends_with(end)) name = name.substr(0, name.size() - end.size()) + ".weight";
    }
    bytes[name] += tensor.data.size();
  }
  return bytes;
}

// `has_losses`: the sensitivities were measured.
std::vector<ReportMatrix> matrices(const QuantizeReport& report, const std::string& target, bool has_losses) {
  const LoadedModel model = load_model(target);
  const std::map<std::string, uint64_t> bytes = matrix_bytes(*model.weights.source);
  std::vector<ReportMatrix> rows;
  for (const QuantizedMatrix& matrix : report.matrices) {
    const auto found = bytes.find(matrix.name);
    ReportMatrix row;
    row.name = matrix.name;
    row.storage = matrix.storage;
    row.n_values = matrix.n_values;
    row.n_bytes = found == bytes.end() ? 0 : found->second;
    row.relative_error = matrix.relative_error;
    if (has_losses) {
      row.predicted_loss = matrix.predicted_loss;
      row.rounding_loss = matrix.rounding_loss;
    }
    rows.push_back(std::move(row));
  }
  return rows;
}

std::vector<TextSet> sample_set(const Tokenizer& tokenizer) {
  TextSet set;
  set.path = "sample text";
  const std::vector<int32_t> ids = tokenizer.encode(kSampleText);
  constexpr size_t kChunk = 256;
  for (size_t begin = 0; begin + kChunk <= ids.size(); begin += kChunk) {
    set.chunks.emplace_back(ids.begin() + static_cast<std::ptrdiff_t>(begin),
                            ids.begin() + static_cast<std::ptrdiff_t>(begin + kChunk));
  }
  if (set.chunks.empty()) set.chunks.push_back(ids);
  return {set};
}

std::vector<std::string> answers(const std::string& path, int n_threads) {
  TextModelOptions options;
  options.n_threads = n_threads;
  const std::unique_ptr<TextModel> model = TextModel::load(path, options);
  std::vector<GenerateRequest> requests;
  for (const char* question : sample_questions()) {
    GenerateRequest request;
    request.prompt = question;
    request.sampling.temperature = 0;
    request.max_tokens = kAnswerTokens;
    request.cancel = &CancelScope::flag();
    requests.push_back(std::move(request));
  }
  std::vector<std::string> texts;
  for (const GenerateResult& result : model->generate_all(requests)) texts.push_back(result.text);
  return texts;
}

// Tokens per second of the tests, the middle of some runs.
std::vector<std::pair<std::string, double>> speeds(const std::string& path, int n_threads) {
  LoadedModel model = load_model(path);
  RunnerOptions options;
  options.n_threads = n_threads;
  const int64_t context = model.spec.max_context;
  const std::unique_ptr<Runner> runner = create_runner("cpu", model.spec, std::move(model.weights), options);
  std::vector<SweepTest> tests;
  tests.push_back({true, static_cast<int>(std::min<int64_t>(512, context - 1)), 0, 1, 0});
  tests.push_back({false, static_cast<int>(std::min<int64_t>(64, context - 1)), 0, 1, 0});
  Sweep sweep(*runner, tests, 0);
  std::vector<std::pair<std::string, double>> results;
  for (const SweepTest& test : sweep.tests()) {
    sweep.run(test, 16);
    std::vector<double> seconds;
    for (int i = 0; i < kRuns; ++i) seconds.push_back(sweep.run(test, test.n_tokens));
    std::sort(seconds.begin(), seconds.end());
    results.emplace_back(test.name(), static_cast<double>(test.total_tokens()) / seconds[kRuns / 2]);
  }
  return results;
}

class ReportWork {
 public:
  ReportWork(const ReportFlags& flags, const QuantizeOptions& options) : flags_(flags), options_(options) {}

  QualityReport measure(const QuantizeReport& quantized) {
    report_.source = options_.source;
    report_.target = options_.target;
    report_.method = quant_method_name(options_.method);
    report_.program = "mobilellm " + build_text();
    report_.machine = cpu_name().empty() ? "an unknown processor" : cpu_name();
    report_.notes = quantized.conversion.notes;
    report_.matrices = matrices(quantized, options_.target, options_.target_bpw.has_value());
    compare();
    answer();
    time();
    return std::move(report_);
  }

 private:
  void show(const char* label, double fraction) {
    if (CancelScope::flag().load(std::memory_order_relaxed)) {
      fail(ErrorCode::kCancelled, "[report] stopped; {} is complete, the report was not written", options_.target);
    }
    if (!bar_ || label_ != label) bar_.emplace(label);
    label_ = label;
    bar_->update(fraction);
  }

  void compare() {
    RunnerOptions exact;
    exact.n_threads = options_.n_threads;
    exact.is_exact = true;
    exact.on_progress = [this](double fraction) {
      show("loading", fraction);
      return true;
    };
    const MeasuredModel a = open_measured_model(options_.source, exact);
    const MeasuredModel b = open_measured_model(options_.target, exact);
    report_.source_bits = a.bits_per_weight();
    report_.target_bits = b.bits_per_weight();
    report_.source_bytes = a.n_bytes;
    report_.target_bytes = b.n_bytes;
    if (a.text.tokenizer == nullptr) {
      report_.notes.emplace_back("the model has no tokenizer, so it was not run on text");
      return;
    }
    const std::vector<TextSet> sets = flags_.texts.empty()
                                          ? sample_set(*a.text.tokenizer)
                                          : read_text_sets(a, &b, flags_.texts, {.max_chunks = kChunks});
    CompareOptions options;
    options.n_threads = options_.n_threads;
    options.on_progress = [this](double fraction) { show("comparing", fraction); };
    options.max_flips = 12;
    report_.comparison = compare_models(*a.runner, *b.runner, sets, options);
    report_.flips = flip_texts(report_.comparison, sets, *a.text.tokenizer);
    has_text_ = true;
  }

  void answer() {
    if (!has_text_) return;
    show("answering", 0);
    const std::vector<std::string> before = answers(options_.source, options_.n_threads);
    show("answering", 0.5);
    const std::vector<std::string> after = answers(options_.target, options_.n_threads);
    size_t i = 0;
    for (const char* question : sample_questions()) {
      report_.answers.push_back({question, before[i], after[i]});
      ++i;
    }
  }

  void time() {
    show("timing", 0);
    const auto before = speeds(options_.source, options_.n_threads);
    show("timing", 0.5);
    const auto after = speeds(options_.target, options_.n_threads);
    for (size_t i = 0; i < before.size(); ++i) {
      report_.speeds.push_back({before[i].first, before[i].second, after[i].second});
    }
  }

  const ReportFlags& flags_;
  const QuantizeOptions& options_;
  QualityReport report_;
  bool has_text_ = false;
  std::optional<ProgressBar> bar_;
  std::string label_;
};

}  // namespace

void declare_report(Args& args, ReportFlags& flags) {
  args.section("Report");
  args.text("--report", "FILE.html", flags.path,
            "compare the result with the source and write a page about it, and FILE.json; must not exist");
  args.files("--report-text", "FILE", flags.texts,
             "texts to compare on, 8 chunks of each (default: a little text of our own)");
}

void check_report(const Args& args, const ReportFlags& flags) {
  if (flags.path.empty()) {
    if (!flags.texts.empty()) args.fail_usage("--report-text needs --report FILE.html");
    return;
  }
  if (!flags.path.ends_with(".html")) args.fail_usage("--report: expected a name that ends in .html");
  for (const std::string& path : {flags.path, json_path(flags.path)}) {
    if (file_exists(path)) args.fail_usage(fmt::format("--report: {} exists already", path));
  }
  for (const std::string& path : flags.texts) {
    if (!file_exists(path)) args.fail_usage(fmt::format("--report-text: {} does not exist", path));
  }
}

void write_quality_report(const ReportFlags& flags, const QuantizeOptions& options, const QuantizeReport& report) {
  const QualityReport measured = ReportWork(flags, options).measure(report);
  write_file(flags.path, quality_report_html(measured));
  write_file(json_path(flags.path), quality_report_json(measured));
}

}  // namespace mobilellm::cli
