// Predicting losses from samples of rows.
#include "quant/mixed_plan.h"

#include <algorithm>
#include <optional>

#include "base/error.h"
#include "base/thread_pool.h"
#include "quant/input_moments.h"

namespace mobilellm {
namespace {

// Rows that stand for a matrix when its storages are compared.
constexpr int64_t kSampleRows = 48;

std::vector<float> sample_rows(const StoredMatrix& matrix) {
  const int64_t n = std::min(kSampleRows, matrix.rows);
  std::vector<float> values(static_cast<size_t>(n * matrix.cols));
  for (int64_t i = 0; i < n; ++i) {
    const int64_t row = (2 * i + 1) * matrix.rows / (2 * n);
    matrix.codec->decode_rows(matrix, row, row + 1, values.data() + i * matrix.cols);
  }
  return values;
}

// Rows quantized on the caller's thread.
EncodedMatrix quantize_sample(const LayerQuantizer& quantizer, std::span<const float> importance,
                              const MatrixStorage& storage, const std::vector<float>& values, int64_t cols,
                              const std::string& name) {
  const auto n = static_cast<int64_t>(values.size()) / cols;
  EncodedMatrix out = storage.allocate(n, cols, name);
  if (storage.block_type == DType::kU32 && storage.params.mode == QuantMode::kAffine) {
    ThreadPool alone(1);
    quantizer.quantize_rows(values.data(), 0, n, out, alone);
  } else {
    encode_rows(out, 0, n, values.data(), importance);
  }
  return out;
}

// Mean square of the weights' own errors.
double mean_squared_error(const std::vector<float>& values, const StoredMatrix& stored) {
  std::vector<float> decoded(values.size());
  stored.codec->decode_rows(stored, 0, stored.rows, decoded.data());
  double sum = 0.0;
  for (size_t i = 0; i < values.size(); ++i) {
    const double error = static_cast<double>(values[i]) - static_cast<double>(decoded[i]);
    sum += error * error;
  }
  return sum / static_cast<double>(values.size());
}

double fisher_total(std::span<const TensorSensitivity> sensitivities, const MatrixCandidates& candidate) {
  const auto found = std::find_if(sensitivities.begin(), sensitivities.end(), [&](const TensorSensitivity& each) {
    return each.role == candidate.role && each.layer == candidate.layer;
  });
  MOBILELLM_CHECK(found != sensitivities.end());
  return found->total;
}

}  // namespace

MatrixStorage probe_storage() {
  MatrixStorage storage;
  storage.params = {QuantMode::kAffine, 4, 64};
  return storage;
}

LayerQuantizer make_layer_quantizer(QuantMethod method, const InputMoments* moments, int64_t cols, ThreadPool& pool) {
  if (moments != nullptr || method == QuantMethod::kRtn) return {method, moments, pool};
  const InputMoments even(cols, false);
  return {QuantMethod::kFit, &even, pool};
}

std::vector<MatrixLosses> predict_losses(const ModelWeights& weights, std::span<const TensorSensitivity> sensitivities,
                                         QuantMethod method,
                                         const std::function<const InputMoments*(TensorRole, int)>& moments,
                                         std::span<const MatrixCandidates> candidates, ThreadPool& pool,
                                         const std::function<void(double)>& on_progress) {
  std::vector<MatrixLosses> results;
  std::optional<LayerQuantizer> quantizer;
  const InputMoments* quantizer_moments = nullptr;
  for (const MatrixCandidates& candidate : candidates) {
    if (on_progress) on_progress(static_cast<double>(results.size()) / static_cast<double>(candidates.size()));
    const StoredMatrix& matrix = matrix_of(weights, candidate.role, candidate.layer);
    const InputMoments* own = moments(candidate.role, candidate.layer);
    if (!quantizer || own == nullptr || own != quantizer_moments) {
      quantizer.emplace(make_layer_quantizer(method, own, matrix.cols, pool));
      quantizer_moments = own;
    }
    std::vector<float> importance;
    if (own != nullptr && method != QuantMethod::kRtn) importance = own->diagonal();
    MatrixLosses& losses = results.emplace_back();
    const std::vector<float> sample = sample_rows(matrix);
    const auto n_sample = static_cast<int64_t>(sample.size()) / matrix.cols;

    const std::optional<MatrixStorage> probe = fit_storage(probe_storage(), matrix.cols);
    MOBILELLM_CHECK(probe.has_value());
    EncodedMatrix rounded = probe->allocate(n_sample, matrix.cols, matrix.name);
    encode_rows(rounded, 0, n_sample, sample.data());
    losses.rounding_loss = fisher_total(sensitivities, candidate) / 2 * mean_squared_error(sample, rounded.view());
    const double rounding_error = quantizer->error_of_rows(sample.data(), 0, n_sample, rounded.view(), pool);
    const double loss_per_error = rounding_error > 0.0 ? losses.rounding_loss / rounding_error : 0.0;

    losses.costs.resize(candidate.options.size());
    pool.run(static_cast<int64_t>(candidate.options.size()), [&](int64_t i, int /*worker*/) {
      const MatrixStorage& storage = candidate.options[static_cast<size_t>(i)];
      const EncodedMatrix encoded = quantize_sample(*quantizer, importance, storage, sample, matrix.cols, matrix.name);
      ThreadPool alone(1);
      const double error = quantizer->error_of_rows(sample.data(), 0, n_sample, encoded.view(), alone);
      losses.costs[static_cast<size_t>(i)] = {stored_bits(storage, matrix.rows, matrix.cols), error * loss_per_error};
    });
  }
  return results;
}

}  // namespace mobilellm
