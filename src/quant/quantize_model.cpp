// The course of a quantization: read text, calibrate, convert.
#include "quant/quantize_model.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <optional>
#include <tuple>
#include <utility>

#include "base/error.h"
#include "base/files.h"
#include "base/json.h"
#include "base/staged_output.h"
#include "base/thread_pool.h"
#include "base/topology.h"
#include "convert/matrix_quantizer.h"
#include "convert/weight_plan.h"
#include "model/binding.h"
#include "model/checkpoint.h"
#include "model/loader.h"
#include "quant/default_text.h"
#include "quant/kept_run.h"
#include "quant/output_moments.h"
#include "quant/plan_storage.h"
#include "quant/quantize_distilled.h"

namespace mobilellm {
namespace {

constexpr size_t kChunkTokens = 512;
constexpr size_t kMaxTextBytes = size_t{256} << 20;

std::string read_calibration_text(const std::string& path) {
  std::string text = read_file(path, kMaxTextBytes);
  if (!path.ends_with(".jsonl")) return text;
  std::string joined;
  size_t line_number = 0;
  for (size_t begin = 0; begin < text.size(); ++line_number) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    const std::string_view line = std::string_view(text).substr(begin, end - begin);
    begin = end + 1;
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    const std::string origin = fmt::format("[quant] {}, line {}", path, line_number + 1);
    const Json row = Json::parse(line, origin);
    joined += JsonObjectReader(row, origin).get_string("text") + "\n\n";
  }
  return joined;
}

// A matrix is read as an output table by calibration's last input; an embedding table of its own is only looked up.
const InputMoments* moments_of(const ModelMoments* moments, bool is_tied, TensorRole role, int layer) {
  if (moments == nullptr || (role == TensorRole::kEmbedTokens && !is_tied)) return nullptr;
  return &moments->of(role, layer);
}

void check_cancel(const QuantizeOptions& options) {
  if (options.cancel != nullptr && options.cancel->load(std::memory_order_relaxed)) {
    fail(ErrorCode::kCancelled, "[quant] stopped; nothing was written to {}", options.target);
  }
}

// Weighted sums over a row of squared errors and of squares, which floats may not hold; in lanes, so that the compiler
// makes vectors of them.
template <typename Weight>
std::pair<double, double> squared_errors(const float* exact, const float* decoded, int64_t n, Weight weight) {
  constexpr int64_t kLanes = 16;
  double errors[kLanes] = {};
  double squares[kLanes] = {};
  const auto add = [&](int64_t k, int64_t lane) {
    const auto value = static_cast<double>(exact[k]);
    const double error = value - static_cast<double>(decoded[k]);
    const auto by = static_cast<double>(weight(k));
    errors[lane] += by * error * error;
    squares[lane] += by * value * value;
  };
  int64_t k = 0;
  for (; k + kLanes <= n; k += kLanes) {
    for (int64_t lane = 0; lane < kLanes; ++lane) add(k + lane, lane);
  }
  for (; k < n; ++k) add(k, 0);
  std::pair<double, double> sums;
  for (int64_t lane = 0; lane < kLanes; ++lane) {
    sums.first += errors[lane];
    sums.second += squares[lane];
  }
  return sums;
}

// Its rows may come in another order than in the source.
bool is_rotated(TensorRole role) { return role == TensorRole::kQProj || role == TensorRole::kKProj; }

class ModelQuantizer final : public MatrixQuantizer {
 public:
  ModelQuantizer(const QuantizeOptions& options, const StoragePlan& plan, const ModelMoments* moments,
                 const OutputMoments* outputs, bool is_tied, bool heads_are_reordered, KeptRun* kept, ThreadPool& pool,
                 QuantizeReport& report)
      : options_(options),
        plan_(plan),
        moments_(moments),
        outputs_(outputs),
        is_tied_(is_tied),
        heads_are_reordered_(heads_are_reordered),
        kept_(kept),
        pool_(pool),
        report_(report) {}

  std::optional<MatrixStorage> choose_storage(const TensorEntry& entry, DType dtype) override {
    std::optional<MatrixStorage> storage = plan_.at({entry.role, entry.layer}).storage;
    if (storage) {
      storage->scale_dtype = dtype;
      return storage;
    }
    report_.matrices.push_back({entry.names.front(), "float", entry.shape[0] * entry.shape[1], 0.0, 0.0, 0.0});
    return std::nullopt;
  }

  void share(int64_t n_tasks, const std::function<void(int64_t)>& task) override {
    pool_.run(n_tasks, [&](int64_t i, int /*worker*/) { task(i); });
  }

  void encode(const TensorEntry& entry, int64_t row_begin, int64_t row_end, const float* values,
              EncodedMatrix& out) override {
    check_cancel(options_);
    if (row_begin == 0) begin_matrix(entry, out);
    if (is_restored_) return;
    const StoredMatrix& matrix = out.view();
    const bool is_affine = matrix.bits != 0 && matrix.codec == find_codec("affine");
    if (is_affine && !blocks_.empty()) {
      encode_blocks(row_begin, row_end, values, out);
      if (row_end == matrix.rows) end_matrix(out);
      return;
    }
    if (is_affine) {
      MOBILELLM_CHECK(layer_.has_value());
      layer_->quantize_rows(values, row_begin, row_end, out, pool_);
    } else {
      const bool has_importance = options_.method != QuantMethod::kRtn && !diagonal_.empty();
      encode_chunk(values, row_begin, row_end,
                   has_importance ? std::span<const float>(diagonal_) : std::span<const float>(), out);
    }
    add_errors(values, row_begin, row_end, matrix);
    if (row_end == matrix.rows) end_matrix(out);
  }

 private:
  void begin_matrix(const TensorEntry& entry, EncodedMatrix& out) {
    const StoredMatrix& matrix = out.view();
    std::optional<QuantizedMatrix> restored;
    storage_ = matrix.bits == 0
                   ? dtype_name(matrix.dtype)
                   : fmt::format("{} {} bits, group {}", matrix.codec->name(), matrix.bits, matrix.group_size);
    if (kept_ != nullptr) restored = kept_->restore(entry.names.front(), storage_, out);
    is_restored_ = restored.has_value();
    if (is_restored_) {
      report_.matrices.push_back(std::move(*restored));
      return;
    }
    if (moments_ == nullptr && options_.method != QuantMethod::kRtn) {
      // Nothing was calibrated because all was kept.
      fail(ErrorCode::kIo, "[quant] tensor '{}': its kept part cannot be read any more", entry.names.front());
    }
    const InputMoments* moments = moments_of(moments_, is_tied_, entry.role, entry.layer);
    diagonal_ = moments == nullptr ? std::vector<float>() : moments->diagonal();
    name_ = entry.names.front();
    planned_ = &plan_.at({entry.role, entry.layer});
    squared_error_ = 0.0;
    squares_ = 0.0;
    blocks_ = {};
    waiting_.clear();
    if (matrix.codec != find_codec("affine")) return;
    const bool is_reordered = heads_are_reordered_ && is_rotated(entry.role);
    if (outputs_ != nullptr && !is_reordered) blocks_ = outputs_->of(entry.role, entry.layer);
    const bool is_table = entry.role == TensorRole::kEmbedTokens || entry.role == TensorRole::kLmHead;
    const InputMoments* inputs = is_table && moments != nullptr && outputs_ != nullptr ? &outputs_->table() : moments;
    if (inputs != nullptr && inputs == layer_moments_) return;
    layer_moments_ = inputs;
    layer_.emplace(make_layer_quantizer(options_.method, inputs, matrix.cols, pool_));
  }

  // Rows wait until their block is complete.
  void encode_blocks(int64_t row_begin, int64_t row_end, const float* values, EncodedMatrix& out) {
    MOBILELLM_CHECK(layer_.has_value());
    const int64_t cols = out.view().cols;
    int64_t first = row_begin - static_cast<int64_t>(waiting_.size()) / cols;
    waiting_.insert(waiting_.end(), values, values + (row_end - row_begin) * cols);
    while (!blocks_.empty() && first + blocks_.front().cols() <= row_end) {
      const int64_t n_rows = blocks_.front().cols();
      layer_->quantize_rows_together(waiting_.data(), first, first + n_rows, blocks_.front(), out, pool_);
      add_errors(waiting_.data(), first, first + n_rows, out.view());
      waiting_.erase(waiting_.begin(), waiting_.begin() + n_rows * cols);
      first += n_rows;
      blocks_ = blocks_.subspan(1);
    }
  }

  void encode_chunk(const float* values, int64_t row_begin, int64_t row_end, std::span<const float> importance,
                    EncodedMatrix& out) {
    constexpr int64_t kRows = 32;
    pool_.run((row_end - row_begin + kRows - 1) / kRows, [&](int64_t task, int /*worker*/) {
      const int64_t begin = row_begin + task * kRows;
      encode_rows(out, begin, std::min(begin + kRows, row_end), values + (begin - row_begin) * out.view().cols,
                  importance);
    });
  }

  void add_errors(const float* values, int64_t row_begin, int64_t row_end, const StoredMatrix& matrix) {
    const int64_t cols = matrix.cols;
    const int64_t n_rows = row_end - row_begin;
    std::vector<double> errors(static_cast<size_t>(n_rows));
    std::vector<double> squares(static_cast<size_t>(n_rows));
    const float* weights = diagonal_.empty() ? nullptr : diagonal_.data();
    pool_.run(n_rows, [&](int64_t row, int /*worker*/) {
      std::vector<float> decoded(static_cast<size_t>(cols));
      matrix.codec->decode_rows(matrix, row_begin + row, row_begin + row + 1, decoded.data());
      const float* exact = values + row * cols;
      const auto at = static_cast<size_t>(row);
      if (weights == nullptr) {
        std::tie(errors[at], squares[at]) = squared_errors(exact, decoded.data(), cols, [](int64_t) { return 1.0F; });
      } else {
        std::tie(errors[at], squares[at]) =
            squared_errors(exact, decoded.data(), cols, [weights](int64_t k) { return weights[k]; });
      }
    });
    for (size_t row = 0; row < errors.size(); ++row) {
      squared_error_ += errors[row];
      squares_ += squares[row];
    }
    n_values_ = matrix.rows * matrix.cols;
  }

  void end_matrix(EncodedMatrix& out) {
    const double relative = squares_ > 0.0 ? std::sqrt(squared_error_ / squares_) : 0.0;
    report_.matrices.push_back(
        {name_, storage_, n_values_, relative, planned_->predicted_loss, planned_->rounding_loss});
    if (kept_ != nullptr) kept_->keep(report_.matrices.back(), out);
  }

  const QuantizeOptions& options_;
  const StoragePlan& plan_;
  const ModelMoments* moments_;
  const OutputMoments* outputs_;
  bool is_tied_;
  bool heads_are_reordered_;
  KeptRun* kept_;
  ThreadPool& pool_;
  QuantizeReport& report_;
  bool is_restored_ = false;
  // Of the matrix that is being encoded; the layer quantizer serves all that read the same input.
  std::optional<LayerQuantizer> layer_;
  const InputMoments* layer_moments_ = nullptr;
  std::vector<float> diagonal_;
  std::span<const InputMoments> blocks_;  // What is left of the matrix, where its rows are quantized together.
  std::vector<float> waiting_;            // Rows of the first of these blocks.
  const PlannedStorage* planned_ = nullptr;
  std::string name_, storage_;
  int64_t n_values_ = 0;
  double squared_error_ = 0.0;
  double squares_ = 0.0;
};

void check_options(const QuantizeOptions& options) {
  if (options.format == ModelFormat::kHuggingFace) {
    fail(ErrorCode::kInvalidArgument, "[quant] format: got hf, expected mlx or gguf, which hold quantized weights");
  }
  const bool is_affine = options.format == ModelFormat::kMlx && options.params.mode == QuantMode::kAffine;
  if (options.format == ModelFormat::kMlx) check_quantization_params(options.params);
  if (options.method >= QuantMethod::kGptq && !is_affine) {
    fail(ErrorCode::kInvalidArgument, "[quant] method {}: expected affine groups; use fit or rtn for other formats",
         quant_method_name(options.method));
  }
  if (options.recipe != nullptr && (options.recipe->format != options.format || options.target_bpw)) {
    fail(ErrorCode::kInvalidArgument, "[quant] recipe {}: expected it without target_bpw, for {}", options.recipe->name,
         model_format_name(options.recipe->format));
  }
}

class Quantization {
 public:
  Quantization(const QuantizeOptions& options, KeptRun* kept)
      : options_(options), kept_(kept), pool_(options.n_threads > 0 ? options.n_threads : usable_cores()) {}

  QuantizeReport run() {
    const std::vector<TensorEntry> matrices = target_matrices();
    std::optional<LoadedModel> model;
    std::optional<ModelMoments> moments;
    std::optional<OutputMoments> outputs;
    const bool is_calibrated = options_.method != QuantMethod::kRtn;
    if (is_calibrated || options_.target_bpw) {
      check_source();
      model = load_model(options_.source);
      is_tied_ = model->spec.is_output_tied;
      chunks_ = read_chunks(*model);
      if (is_calibrated) report_.n_calibration_tokens = n_tokens_;
      // When an earlier run quantized everything, and was stopped later, there is nothing to calibrate for.
      const bool is_all_kept = kept_ != nullptr && has_all(matrices);
      if (is_calibrated && !is_all_kept) moments = calibrate(*model);
      if (options_.method == QuantMethod::kYaqa && !is_all_kept) {
        outputs.emplace(model->spec, model->weights, output_moment_chunks(model->spec, chunks_), options_.seed, pool_,
                        [&](double fraction) { progress("measuring outputs", fraction); });
      }
    }
    const ModelMoments* all_moments = moments ? &*moments : nullptr;
    const StoragePlan plan = make_plan(model ? &*model : nullptr, matrices, all_moments);
    model.reset();
    if (kept_ != nullptr) kept_->expect_target(target_bytes(plan, matrices));
    ModelQuantizer quantizer(options_, plan, all_moments, outputs ? &*outputs : nullptr, is_tied_, is_source_gguf_,
                             kept_, pool_, report_);
    ConvertOptions convert;
    convert.source = options_.source;
    convert.target = options_.target;
    convert.format = options_.format;
    convert.quantizer = &quantizer;
    convert.cancel = options_.cancel;
    convert.on_progress = [&](double fraction) { progress("quantizing", fraction); };
    report_.conversion = convert_model(convert);
    return std::move(report_);
  }

 private:
  void progress(const char* stage, double fraction) const {
    check_cancel(options_);
    if (options_.on_progress) options_.on_progress(stage, fraction);
  }

  // Calibration would spread a NaN over all that it learns, and nothing would tell where it came from.
  void check_source() const {
    const CheckpointDir source = open_checkpoint(options_.source);
    const BindingReport binding =
        match_tensors(describe_checkpoint(source), *source.weights, checkpoint_quantization(source));
    if (binding.first_error().empty()) check_finite_weights(binding, *source.weights);
  }

  // Whether the plan and all that it quantizes are kept.
  bool has_all(std::span<const TensorEntry> matrices) const {
    const std::optional<StoragePlan> plan =
        options_.target_bpw ? kept_->plan() : std::optional(plan_fixed(options_, spec_, matrices));
    return plan && std::all_of(matrices.begin(), matrices.end(), [&](const TensorEntry& entry) {
             return !plan->at({entry.role, entry.layer}).storage || kept_->holds(entry.names.front());
           });
  }

  // The matrices of the target, by the names they will have there.
  std::vector<TensorEntry> target_matrices() {
    ModelDescription description = describe_checkpoint(open_checkpoint(options_.source));
    is_source_gguf_ = description.names == NameScheme::kGguf;
    description.names = options_.format == ModelFormat::kGguf ? NameScheme::kGguf : NameScheme::kMlx;
    spec_ = description.spec;
    std::vector<TensorEntry> entries = tensor_table(description);
    std::erase_if(entries, [](const TensorEntry& entry) { return !entry.is_matrix(); });
    return entries;
  }

  StoragePlan make_plan(const LoadedModel* model, std::span<const TensorEntry> matrices,
                        const ModelMoments* moments) const {
    if (!options_.target_bpw) return plan_fixed(options_, spec_, matrices);
    if (kept_ != nullptr) {
      if (const auto kept = kept_->plan()) return *kept;
    }
    StoragePlan plan = plan_mixture(*model, matrices, moments);
    if (kept_ != nullptr) kept_->keep_plan(plan);
    return plan;
  }

  StoragePlan plan_mixture(const LoadedModel& model, std::span<const TensorEntry> matrices,
                           const ModelMoments* moments) const {
    const std::vector<TensorSensitivity> sensitivities =
        tensor_sensitivities(model.spec, model.weights, sensitivity_pieces(chunks_), options_.seed, pool_,
                             [&](double fraction) { progress("measuring", fraction); });
    const auto moments_for = [&](TensorRole role, int layer) { return moments_of(moments, is_tied_, role, layer); };
    return plan_mixed(options_, model, matrices, sensitivities, moments_for, pool_,
                      [&](double fraction) { progress("choosing bits", fraction); });
  }

  // Without norms and biases, which are small; what stays float as f32.
  static double target_bytes(const StoragePlan& plan, std::span<const TensorEntry> matrices) {
    double n_bits = 0;
    for (const TensorEntry& entry : matrices) {
      const std::optional<MatrixStorage>& storage = plan.at({entry.role, entry.layer}).storage;
      n_bits += storage ? stored_bits(*storage, entry.shape[0], entry.shape[1])
                        : 32.0 * static_cast<double>(entry.shape[0]) * static_cast<double>(entry.shape[1]);
    }
    return n_bits / 8;
  }

  std::vector<std::vector<int32_t>> read_chunks(const LoadedModel& model) {
    if (model.tokenizer == nullptr) {
      fail(ErrorCode::kInvalidArgument, "[quant] {}: got no tokenizer, expected one for the calibration text",
           options_.source);
    }
    std::vector<std::vector<int32_t>> chunks;
    const int64_t most =
        options_.calibration_tokens > 0 ? options_.calibration_tokens : default_calibration_tokens(spec_);
    int64_t n_tokens = 0;
    const auto add = [&](const std::string& text) {
      const std::vector<int32_t> ids = model.tokenizer->encode(text);
      for (size_t begin = 0; begin < ids.size() && n_tokens < most; begin += kChunkTokens) {
        const auto left = static_cast<size_t>(most - n_tokens);
        const size_t end = std::min({begin + kChunkTokens, ids.size(), begin + left});
        chunks.emplace_back(ids.begin() + static_cast<std::ptrdiff_t>(begin),
                            ids.begin() + static_cast<std::ptrdiff_t>(end));
        n_tokens += static_cast<int64_t>(end - begin);
      }
    };
    if (options_.calibration.empty()) add(default_calibration_text());
    for (const std::string& path : options_.calibration) {
      progress("reading", 0.0);
      add(read_calibration_text(path));
    }
    if (n_tokens == 0) fail(ErrorCode::kInvalidArgument, "[quant] calibration: got text without tokens");
    n_tokens_ = n_tokens;
    return chunks;
  }

  ModelMoments calibrate(const LoadedModel& model) {
    ModelMoments moments(model.spec, options_.method >= QuantMethod::kGptq);
    moments.collect(model.spec, model.weights, chunks_, pool_,
                    [&](double fraction) { progress("calibrating", fraction); });
    return moments;
  }

  const QuantizeOptions& options_;
  KeptRun* kept_;
  mutable ThreadPool pool_;
  QuantizeReport report_;
  ModelSpec spec_;
  bool is_tied_ = false;
  bool is_source_gguf_ = false;
  std::vector<std::vector<int32_t>> chunks_;
  int64_t n_tokens_ = 0;  // Of them.
};

}  // namespace

int64_t default_calibration_tokens(const ModelSpec& spec) {
  // More text helps small models, and costs large ones too much time.
  constexpr int64_t kSmallModel = 400'000'000;
  return parameter_count(spec) <= kSmallModel ? 65536 : 32768;
}

QuantizeReport quantize_kept(const QuantizeOptions& options, KeptRun* kept) {
  return Quantization(options, kept).run();
}

QuantizeReport quantize_model(const QuantizeOptions& options) {
  check_options(options);
  (void)StagedOutput::check_target(options.target);
  // Rounding takes seconds: it starts anew.
  if (options.method == QuantMethod::kRtn && !options.target_bpw) return quantize_kept(options, nullptr);
  // Before parts of an earlier run are compared with it: a source that is away for a moment is not another one.
  (void)describe_checkpoint(open_checkpoint(options.source));
  KeptRun kept(options);
  try {
    QuantizeReport report =
        options.method == QuantMethod::kDwq ? quantize_distilled(options, kept) : quantize_kept(options, &kept);
    kept.remove();
    if (!kept.note().empty()) report.conversion.notes.push_back(kept.note());
    return report;
  } catch (const Error& error) {
    // Hours of work: they stay whatever stopped the run, a full disk, the user, or something at the target's name.
    throw Error(error.code(), error.what() + kept.hint());
  }
}

}  // namespace mobilellm
