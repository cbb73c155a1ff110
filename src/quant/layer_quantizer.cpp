// The quantization methods, rows shared among threads.
#include "quant/layer_quantizer.h"

#include <algorithm>
#include <cmath>

#include "base/cpu_features.h"
#include "base/error.h"
#include "base/thread_pool.h"
#include "codec/affine_fit.h"
#include "quant/gptq.h"
#include "quant/hessian.h"
#include "quant/input_moments.h"
#include "quant/kronecker_rounding.h"

namespace mobilellm {
namespace {

// Rows of a task: a multiple of every kernel's tile of tokens, few enough that a worker's buffers stay in the cache.
constexpr int64_t kTaskRows = 48;
// Sweeps of improve_groups() after the codes are chosen.
constexpr int kSweeps = 2;

// What is added to the moments of output gradients, by their mean square. Tens of thousands of gradients tell
// little about single pairs of rows; with less, the rows fit the noise (docs/log.md).
constexpr float kOutputDamping = 0.3F;

struct MethodRow {
  QuantMethod method;
  const char* name;
};
constexpr MethodRow kMethods[] = {{QuantMethod::kRtn, "rtn"},
                                  {QuantMethod::kFit, "fit"},
                                  {QuantMethod::kGptq, "gptq"},
                                  {QuantMethod::kYaqa, "yaqa"},
                                  {QuantMethod::kDwq, "dwq"}};

// Fits the grid of every group and rounds to it.
void fit_rows(const float* weights, const std::vector<float>& fit_weights, AffineRows& rows) {
  const auto group_size = rows.group_size;
  for (int64_t g = 0; g < rows.n_rows * rows.n_groups(); ++g) {
    const float* x = weights + g * group_size;
    const float* w = fit_weights.data() + g % rows.n_groups() * group_size;
    const auto [low, high] = std::minmax_element(x, x + group_size);
    AffineGrid start = choose_mlx_grid(*low, *high, rows.top);
    start.scale = round_to_stored(start.scale, rows.stored);
    start.bias = round_to_stored(start.bias, rows.stored);
    const AffineGrid grid = fit_affine(x, w, group_size, rows.top, rows.stored, &start);
    rows.scales[static_cast<size_t>(g)] = grid.scale;
    rows.biases[static_cast<size_t>(g)] = grid.bias;
    for (int k = 0; k < group_size; ++k) {
      const float code = std::nearbyint((x[k] - grid.bias) / grid.scale);
      rows.codes[static_cast<size_t>(g * group_size + k)] =
          static_cast<uint8_t>(std::clamp(code, 0.0F, static_cast<float>(rows.top)));
    }
  }
}

AffineRows make_rows(const StoredMatrix& format, int64_t n_rows) {
  AffineRows rows;
  rows.n_rows = static_cast<int>(n_rows);
  rows.cols = format.cols;
  rows.group_size = format.group_size;
  rows.top = (1 << format.bits) - 1;
  rows.stored = format.scale_dtype;
  rows.codes.resize(static_cast<size_t>(n_rows * format.cols));
  rows.scales.resize(static_cast<size_t>(n_rows * rows.n_groups()));
  rows.biases.resize(rows.scales.size());
  return rows;
}

// Calls task(first row of a chunk, its number of rows, worker) for all rows.
template <typename Task>
void for_row_chunks(int64_t n_rows, ThreadPool& pool, Task task) {
  pool.run((n_rows + kTaskRows - 1) / kTaskRows, [&](int64_t index, int worker) {
    const int64_t first = index * kTaskRows;
    task(first, std::min(kTaskRows, n_rows - first), worker);
  });
}

}  // namespace

const char* quant_method_name(QuantMethod method) { return kMethods[static_cast<size_t>(method)].name; }

QuantMethod parse_quant_method(std::string_view name) {
  for (const MethodRow& row : kMethods) {
    if (name == row.name) return row.method;
  }
  fail(ErrorCode::kInvalidArgument, "[quant] method: got '{}', expected rtn, fit, gptq, yaqa or dwq", name);
}

LayerQuantizer::LayerQuantizer(QuantMethod method, const InputMoments* moments, ThreadPool& pool) : method_(method) {
  if (moments == nullptr && method != QuantMethod::kRtn) {
    fail(ErrorCode::kInvalidArgument, "[quant] method {}: got no input moments, expected those of a calibration run",
         quant_method_name(method));
  }
  if (moments == nullptr) return;
  diagonal_ = moments->diagonal();
  for (const float square : diagonal_) {
    if (std::isfinite(square)) continue;
    fail(ErrorCode::kCorruptData,
         "[quant] calibration: got layer inputs that are not finite; check the model with `verify`");
  }
  if (moments->is_full() || walks()) hessian_ = std::make_unique<const Hessian>(*moments, pool);
}

LayerQuantizer::~LayerQuantizer() = default;
LayerQuantizer::LayerQuantizer(LayerQuantizer&&) noexcept = default;
LayerQuantizer& LayerQuantizer::operator=(LayerQuantizer&&) noexcept = default;

std::vector<float> LayerQuantizer::fit_weights(const StoredMatrix& format) const {
  const int64_t cols = format.cols;
  if (!diagonal_.empty() && static_cast<int64_t>(diagonal_.size()) != cols) {
    fail(ErrorCode::kInvalidArgument,
         "[quant] tensor '{}': got {} columns, expected {}, the size of the calibrated input", format.name, cols,
         diagonal_.size());
  }
  if (method_ == QuantMethod::kRtn) return {};
  std::vector<float> weights(static_cast<size_t>(cols));
  const std::vector<float> costs = walks() ? hessian_->remaining_costs() : diagonal_;
  for (int64_t k = 0; k < cols; k += format.group_size) {
    make_fit_weights(costs.data() + k, format.group_size, weights.data() + k);
  }
  return weights;
}

void LayerQuantizer::quantize_rows(const float* weights, int64_t row_begin, int64_t row_end, EncodedMatrix& out,
                                   ThreadPool& pool) const {
  const StoredMatrix& format = out.view();
  const int64_t cols = format.cols;
  const std::vector<float> costs = fit_weights(format);
  const KernelTable& kernels = kernel_table(select_isa());
  std::vector<GptqWorkspace> workspaces(static_cast<size_t>(pool.n_threads()));
  for_row_chunks(row_end - row_begin, pool, [&](int64_t first, int64_t n_rows, int worker) {
    const float* chunk = weights + first * cols;
    const int64_t begin = row_begin + first;
    // Also checks the values, for every method.
    encode_rows(out, begin, begin + n_rows, chunk);
    if (method_ == QuantMethod::kRtn) return;
    AffineRows rows = make_rows(format, n_rows);
    fit_rows(chunk, costs, rows);
    if (walks()) {
      GptqWorkspace& workspace = workspaces[static_cast<size_t>(worker)];
      choose_codes(*hessian_, chunk, rows, workspace, kernels);
      for (int sweep = 0; sweep < kSweeps; ++sweep) improve_groups(*hessian_, chunk, rows, workspace, kernels);
    }
    store_affine_rows(out, begin, begin + n_rows, rows.codes.data(), rows.scales.data(), rows.biases.data());
  });
}

void LayerQuantizer::quantize_rows_together(const float* weights, int64_t row_begin, int64_t row_end,
                                            const InputMoments& outputs, EncodedMatrix& out, ThreadPool& pool) const {
  MOBILELLM_CHECK(method_ == QuantMethod::kYaqa && outputs.cols() == row_end - row_begin);
  const StoredMatrix& format = out.view();
  const int64_t cols = format.cols;
  const std::vector<float> costs = fit_weights(format);
  AffineRows rows = make_rows(format, row_end - row_begin);
  for_row_chunks(row_end - row_begin, pool, [&](int64_t first, int64_t n_rows, int /*worker*/) {
    const int64_t begin = row_begin + first;
    encode_rows(out, begin, begin + n_rows, weights + first * cols);  // Checks the values.
    AffineRows chunk = make_rows(format, n_rows);
    fit_rows(weights + first * cols, costs, chunk);
    std::copy(chunk.scales.begin(), chunk.scales.end(), rows.scales.begin() + first * rows.n_groups());
    std::copy(chunk.biases.begin(), chunk.biases.end(), rows.biases.begin() + first * rows.n_groups());
  });
  const Hessian output_hessian(outputs, pool, kOutputDamping);
  std::vector<float> errors;
  round_kronecker(output_hessian, *hessian_, weights, kSweeps, rows, errors, kernel_table(select_isa()), pool);
  store_affine_rows(out, row_begin, row_end, rows.codes.data(), rows.scales.data(), rows.biases.data());
}

double LayerQuantizer::error_of_rows(const float* weights, int64_t row_begin, int64_t row_end,
                                     const StoredMatrix& matrix, ThreadPool& pool) const {
  const int64_t cols = matrix.cols;
  const int64_t n_rows = row_end - row_begin;
  const KernelTable& kernels = kernel_table(select_isa());
  // One sum per chunk, added in their order: the same for any number of threads.
  std::vector<double> sums(static_cast<size_t>((n_rows + kTaskRows - 1) / kTaskRows));
  for_row_chunks(n_rows, pool, [&](int64_t first, int64_t n, int /*worker*/) {
    std::vector<float> errors(static_cast<size_t>(n * cols));
    matrix.codec->decode_rows(matrix, row_begin + first, row_begin + first + n, errors.data());
    for (size_t i = 0; i < errors.size(); ++i) errors[i] = weights[static_cast<size_t>(first * cols) + i] - errors[i];
    double& sum = sums[static_cast<size_t>(first / kTaskRows)];
    if (hessian_ != nullptr) {
      std::vector<float> products;
      sum = hessian_error(*hessian_, errors.data(), static_cast<int>(n), products, kernels);
      return;
    }
    for (int64_t i = 0; i < n * cols; ++i) {
      const double weight = diagonal_.empty() ? 1.0 : static_cast<double>(diagonal_[static_cast<size_t>(i % cols)]);
      const auto error = static_cast<double>(errors[static_cast<size_t>(i)]);
      sum += weight * error * error;
    }
  });
  double total = 0.0;
  for (const double sum : sums) total += sum;
  return total;
}

}  // namespace mobilellm
