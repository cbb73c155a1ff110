// The course of a quantization with training.
#include "quant/quantize_distilled.h"

#include <algorithm>
#include <filesystem>

#include "base/error.h"
#include "base/files.h"
#include "base/staged_output.h"
#include "base/thread_pool.h"
#include "base/topology.h"
#include "codec/encode.h"
#include "formats/tensor_overwrite.h"
#include "model/loader.h"
#include "quality/text_set.h"
#include "quant/default_text.h"
#include "quant/distill.h"
#include "quant/kept_run.h"

namespace mobilellm {
namespace {

constexpr size_t kChunkTokens = 512;
// Every n-th chunk is held out, up to a number of them.
constexpr size_t kHeldOutStep = 40;
constexpr size_t kMaxHeldOut = 16;
// Models with more parameters than this keep their codes: moving them takes 8 bytes per weight.
constexpr int64_t kMaxMovingWeights = 400'000'000;

// Forward passes of both models and a backward pass take 8 operations per weight and token; this many take about a
// quarter of an hour on two cores with AVX-512.
constexpr double kDefaultOperations = 3e14;
// Fewer steps than this gain little.
constexpr int64_t kLeastSteps = 40;
constexpr int64_t kMostSteps = 150;

// Steps that fit in the time; 0 for models that are too large for enough of them.
int64_t default_steps(const ModelSpec& spec, int64_t batch_tokens) {
  const double per_step = 8.0 * static_cast<double>(parameter_count(spec)) * static_cast<double>(batch_tokens);
  const auto steps = static_cast<int64_t>(kDefaultOperations / per_step);
  return steps < kLeastSteps ? 0 : std::min(steps, kMostSteps);
}

struct Chunks {
  std::vector<std::vector<int32_t>> train, held_out;
};

Chunks read_chunks(const QuantizeOptions& options) {
  const LoadedText text = load_text_parts(options.source);
  if (text.tokenizer == nullptr) {
    fail(ErrorCode::kInvalidArgument, "[quant] {}: got no tokenizer, expected one for the calibration text",
         options.source);
  }
  Chunks chunks;
  size_t n = 0;
  const auto add = [&](std::vector<int32_t> chunk) {
    const bool is_held_out = n++ % kHeldOutStep == 1 && chunks.held_out.size() < kMaxHeldOut;
    (is_held_out ? chunks.held_out : chunks.train).push_back(std::move(chunk));
  };
  for (const std::string& path : options.calibration) {
    for (auto& chunk : read_text_set(path, text, {static_cast<int64_t>(kChunkTokens), 0}).chunks) add(std::move(chunk));
  }
  if (!options.calibration.empty()) return chunks;
  const std::vector<int32_t> ids = text.tokenizer->encode(default_calibration_text());
  for (size_t begin = 0; begin < ids.size(); begin += kChunkTokens) {
    const size_t end = std::min(ids.size(), begin + kChunkTokens);
    add({ids.begin() + static_cast<std::ptrdiff_t>(begin), ids.begin() + static_cast<std::ptrdiff_t>(end)});
  }
  return chunks;
}

// Writes a state over the tensors of the quantized model that it came from.
void store(const AffineStudent& student, const AffineStudent::Snapshot& state, const ModelWeights& weights,
           const std::string& folder) {
  std::vector<EncodedMatrix> encoded;
  std::vector<TensorBytes> tensors;
  size_t i = 0;
  for (const StudentMatrix& matrix : student.matrices()) {
    const std::string& name = matrix_of(weights, matrix.id.role, matrix.id.layer).name;
    MOBILELLM_CHECK(name.ends_with(".weight"));
    encoded.emplace_back(QuantizationParams{QuantMode::kAffine, matrix.bits, matrix.group_size}, matrix.stored,
                         matrix.rows, matrix.cols, name);
    store_affine_rows(encoded.back(), 0, matrix.rows, state.codes[i].data(), state.scales[i].data(),
                      state.biases[i].data());
    const std::string base = name.substr(0, name.size() - std::string_view("weight").size());
    tensors.push_back({name, encoded.back().data()});
    tensors.push_back({base + "scales", encoded.back().scales()});
    tensors.push_back({base + "biases", encoded.back().biases()});
    ++i;
  }
  size_t n_written = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().extension() == ".safetensors") n_written += overwrite_tensors(entry.path().string(), tensors);
  }
  MOBILELLM_CHECK(n_written == tensors.size());
}

// Everything that a state of training depends on besides the run.
std::string settings_text(const DistillOptions& settings) {
  return fmt::format("steps {}, tokens {}, rates {} {}, seed {}, checks {}", settings.n_steps, settings.batch_tokens,
                     settings.grid_rate, settings.code_rate, settings.seed, settings.steps_per_check);
}

// Trains the quantized model in `folder`, which is overwritten where that helped.
DistillReport train(const QuantizeOptions& options, const LoadedModel& teacher, DistillOptions settings,
                    const std::string& folder, KeptRun& kept) {
  Chunks chunks = read_chunks(options);
  if (chunks.train.empty()) std::swap(chunks.train, chunks.held_out);
  ThreadPool pool(options.n_threads > 0 ? options.n_threads : usable_cores());
  const LoadedModel quantized = load_model(folder);
  bool moves_codes = settings.code_rate > 0 && parameter_count(teacher.spec) <= kMaxMovingWeights;
  // Heads whose pairs are ordered otherwise have their rows in another order.
  for (size_t i = 0; i < teacher.spec.layers.size(); ++i) {
    moves_codes = moves_codes && teacher.spec.layers[i].rope_style == quantized.spec.layers[i].rope_style;
  }
  AffineStudent student(quantized.spec, quantized.weights, moves_codes ? &teacher.weights : nullptr, pool);
  settings.on_progress = [&](int64_t steps, double /*held_out*/) {
    if (options.cancel != nullptr && options.cancel->load(std::memory_order_relaxed)) {
      fail(ErrorCode::kCancelled, "[quant] stopped; nothing was written to {}", options.target);
    }
    if (options.on_progress) {
      options.on_progress("distilling", static_cast<double>(steps) / static_cast<double>(settings.n_steps));
    }
  };
  const std::string text = settings_text(settings);
  settings.resumed = kept.restore_training(text, student.state());
  settings.on_better = [&](const DistillReport& better) { kept.keep_training(text, better, student.state()); };
  DistillReport report;
  const AffineStudent::Snapshot best =
      distill(teacher.spec, teacher.weights, student, chunks.train, chunks.held_out, settings, pool, report);
  if (report.best_step > 0) store(student, best, quantized.weights, folder);
  return report;
}

}  // namespace

QuantizeReport quantize_distilled(const QuantizeOptions& options, KeptRun& kept) {
  StagedOutput staged(options.target, StagedOutput::Kind::kFile);
  const std::string folder = staged.file(file_name(staged.target()));
  QuantizeOptions first = options;
  first.target = folder;
  first.method = QuantMethod::kYaqa;
  QuantizeReport report;
  try {
    report = quantize_kept(first, &kept);
  } catch (const Error& error) {
    if (error.code() != ErrorCode::kCancelled) throw;
    // Not the hidden folder that the first part writes to.
    fail(ErrorCode::kCancelled, "[quant] stopped; nothing was written to {}", options.target);
  }

  const LoadedModel teacher = load_model(options.source);
  DistillOptions settings = options.distillation;
  if (settings.n_steps == 0) settings.n_steps = default_steps(teacher.spec, settings.batch_tokens);
  if (settings.n_steps > 0) {
    report.distillation = train(options, teacher, std::move(settings), folder, kept);
  } else {
    report.conversion.notes.emplace_back(
        "not distilled: steps of a model of this size take too long; --steps N asks for them");
  }
  staged.commit();
  return report;
}

}  // namespace mobilellm
