// GPTQ on fixed affine grids.
//
// The error of a row's outputs is e^T H e = |U e|^2, U upper triangular with the columns in rising importance. Walking
// from the last column to the first, (U e)[i] can still be made small by the choice of e[i] alone: the best decoded
// value is w[i] + (sum over k > i of U[i][k] e[k]) / U[i][i]. Errors are e = w - decoded.
#include "quant/gptq.h"

#include <algorithm>
#include <cmath>

#include "codec/affine_fit.h"

namespace mobilellm {
namespace {

// Columns whose mutual corrections are made one by one; those of all later columns come from one product.
constexpr int64_t kBlock = 64;

// out[r * out_stride + j] = sum_k a[r * a_stride + k] * b[j * b_stride + k]
void multiply_transposed(const KernelTable& kernels, const float* a, int64_t a_stride, int n_rows, const float* b,
                         int64_t b_stride, int64_t n, int64_t k, float* out, int64_t out_stride) {
  DotRowsArgs args = {};
  args.weights = reinterpret_cast<const std::byte*>(b);
  args.row_bytes = static_cast<size_t>(b_stride) * sizeof(float);
  args.n_rows = static_cast<int>(n);
  args.n_cols = k;
  args.x = a;
  args.x_stride = a_stride;
  args.n_tokens = n_rows;
  args.y = out;
  args.y_stride = out_stride;
  kernels.dot_rows_f32(args);
}

// Half to even for |x| < 2^22, within [0, top]; 0 for NaN.
inline float round_code(float x, float top) {
  constexpr float kShift = 12582912.0F;  // 1.5 * 2^23: its unit is 1.
  const float raised = x > 0.0F ? x : 0.0F;
  return ((raised < top ? raised : top) + kShift) - kShift;
}

template <typename T>
void grow(std::vector<T>& buffer, int64_t size) {
  if (buffer.size() < static_cast<size_t>(size)) buffer.resize(static_cast<size_t>(size));
}

// One block of columns [begin, end) of one row: pending[i - begin] holds what later columns add to (U e)[i].
struct BlockArgs {
  const float* weights;  // [cols], original order
  const int32_t* order;  // of the block
  const float* inverse;  // 1 / U[i][i] of the block
  const float* columns;  // [width, width]: row i holds U[j][i] for j < i
  int64_t width;
  const float* scales;  // of the row
  const float* biases;
  int group_size;
  float top;
};

void walk_block(const BlockArgs& args, float* pending, float* errors, uint8_t* codes) {
  for (int64_t i = args.width; i-- > 0;) {
    const int32_t col = args.order[i];
    const int group = col / args.group_size;
    const float scale = args.scales[group];
    const float bias = args.biases[group];
    const float target = args.weights[col] + pending[i] * args.inverse[i];
    const float code = round_code((target - bias) / scale, args.top);
    const float error = args.weights[col] - (scale * code + bias);
    codes[col] = static_cast<uint8_t>(static_cast<int>(code));
    errors[i] = error;
    const float* column = args.columns + i * args.width;
    for (int64_t j = 0; j < i; ++j) pending[j] += column[j] * error;
  }
}

}  // namespace

void choose_codes(const Hessian& hessian, const float* weights, AffineRows& rows, GptqWorkspace& workspace,
                  const KernelTable& kernels) {
  const int64_t n = rows.cols;
  const float* factor = hessian.factor();
  const int32_t* order = hessian.order().data();
  grow(workspace.errors, rows.n_rows * n);
  grow(workspace.permuted, rows.n_rows * n);
  grow(workspace.products, rows.n_rows * kBlock);
  grow(workspace.block, kBlock * kBlock);
  float inverse[kBlock];
  for (int64_t end = n; end > 0;) {
    // Blocks begin at multiples of kBlock, so that the last columns may form a short one.
    const int64_t begin = (end - 1) / kBlock * kBlock;
    const int64_t width = end - begin;
    if (end < n) {
      multiply_transposed(kernels, workspace.permuted.data() + end, n, rows.n_rows, factor + begin * n + end, n, width,
                          n - end, workspace.products.data(), kBlock);
    } else {
      std::fill_n(workspace.products.begin(), rows.n_rows * kBlock, 0.0F);
    }
    for (int64_t i = 0; i < width; ++i) {
      inverse[i] = 1.0F / factor[(begin + i) * n + begin + i];
      for (int64_t j = 0; j < i; ++j) {
        workspace.block[static_cast<size_t>(i * width + j)] = factor[(begin + j) * n + begin + i];
      }
    }
    for (int r = 0; r < rows.n_rows; ++r) {
      walk_block({weights + r * n, order + begin, inverse, workspace.block.data(), width,
                  rows.scales.data() + r * rows.n_groups(), rows.biases.data() + r * rows.n_groups(), rows.group_size,
                  static_cast<float>(rows.top)},
                 workspace.products.data() + r * kBlock, workspace.permuted.data() + r * n + begin,
                 rows.codes.data() + r * n);
    }
    end = begin;
  }
  for (int r = 0; r < rows.n_rows; ++r) {
    for (int64_t i = 0; i < n; ++i) {
      workspace.errors[static_cast<size_t>(r * n + order[i])] = workspace.permuted[static_cast<size_t>(r * n + i)];
    }
  }
}

namespace {

// One group of one row in improve_groups().
struct GroupFit {
  const float* weights;  // [group_size]
  const float* hessian;  // row 0 of the group's block, rows `stride` apart
  int64_t stride;
  int group_size;
  float top;
  DType stored;
};

// Fits scale and bias. `gradient` is (H e) of the group, `response` H q of the group's own block, `ones` H 1 of it.
void fit_group(const GroupFit& fit, const uint8_t* codes, const float* response, const float* ones, float* gradient,
               float* errors, float* scale, float* bias) {
  double qq = 0.0, q1 = 0.0, one1 = 0.0, gq = 0.0, g1 = 0.0;
  for (int k = 0; k < fit.group_size; ++k) {
    const auto q = static_cast<double>(codes[k]);
    qq += q * static_cast<double>(response[k]);
    q1 += static_cast<double>(response[k]);
    one1 += static_cast<double>(ones[k]);
    gq += q * static_cast<double>(gradient[k]);
    g1 += static_cast<double>(gradient[k]);
  }
  const double determinant = qq * one1 - q1 * q1;
  if (!(determinant > 1e-6 * qq * one1)) return;
  const double scale_step = (gq * one1 - g1 * q1) / determinant;
  const float new_scale = round_to_stored(static_cast<float>(static_cast<double>(*scale) + scale_step), fit.stored);
  if (!(std::fabs(new_scale) >= 1e-30F) || !std::isfinite(new_scale)) return;
  const double taken = static_cast<double>(new_scale) - static_cast<double>(*scale);
  const double bias_step = (g1 - q1 * taken) / one1;
  const float new_bias = round_to_stored(static_cast<float>(static_cast<double>(*bias) + bias_step), fit.stored);
  const double moved = static_cast<double>(new_bias) - static_cast<double>(*bias);
  // The change of e^T H e; rounding to 16 bits can spoil a small gain.
  const double change =
      taken * taken * qq + 2.0 * taken * moved * q1 + moved * moved * one1 - 2.0 * (taken * gq + moved * g1);
  if (!(change < 0.0)) return;
  for (int k = 0; k < fit.group_size; ++k) {
    errors[k] = fit.weights[k] - (new_scale * static_cast<float>(codes[k]) + new_bias);
    gradient[k] -= static_cast<float>(taken) * response[k] + static_cast<float>(moved) * ones[k];
  }
  *scale = new_scale;
  *bias = new_bias;
}

// Moves single codes to the best value given all others.
void move_codes(const GroupFit& fit, float scale, float bias, uint8_t* codes, float* gradient, float* errors) {
  for (int k = 0; k < fit.group_size; ++k) {
    const float* row = fit.hessian + k * fit.stride;
    // e_k may change by -gradient / H_kk: the code by gradient / (H_kk * scale).
    const float code = round_code(static_cast<float>(codes[k]) + gradient[k] / (row[k] * scale), fit.top);
    if (static_cast<int>(code) == codes[k]) continue;
    const float error = fit.weights[k] - (scale * code + bias);
    const float step = error - errors[k];
    if (!(step * (2.0F * gradient[k] + step * row[k]) < 0.0F)) continue;
    codes[k] = static_cast<uint8_t>(static_cast<int>(code));
    errors[k] = error;
    for (int j = 0; j < fit.group_size; ++j) gradient[j] += step * row[j];
  }
}

}  // namespace

void improve_groups(const Hessian& hessian, const float* weights, AffineRows& rows, GptqWorkspace& workspace,
                    const KernelTable& kernels) {
  const int64_t n = rows.cols;
  const int group_size = rows.group_size;
  grow(workspace.products, rows.n_rows * group_size);
  grow(workspace.block, rows.n_rows * group_size);
  grow(workspace.codes, rows.n_rows * group_size);
  std::vector<float> ones(static_cast<size_t>(group_size));
  for (int64_t group = 0; group < rows.n_groups(); ++group) {
    const int64_t begin = group * group_size;
    const float* block = hessian.matrix() + begin * n;
    float* gradients = workspace.products.data();
    float* responses = workspace.block.data();
    multiply_transposed(kernels, workspace.errors.data(), n, rows.n_rows, block, n, group_size, n, gradients,
                        group_size);
    for (int r = 0; r < rows.n_rows; ++r) {
      const uint8_t* codes = rows.codes.data() + r * n + begin;
      std::copy_n(codes, group_size, workspace.codes.data() + r * group_size);
    }
    multiply_transposed(kernels, workspace.codes.data(), group_size, rows.n_rows, block + begin, n, group_size,
                        group_size, responses, group_size);
    for (int k = 0; k < group_size; ++k) {
      float sum = 0.0F;
      for (int j = 0; j < group_size; ++j) sum += block[k * n + begin + j];
      ones[static_cast<size_t>(k)] = sum;
    }
    for (int r = 0; r < rows.n_rows; ++r) {
      const GroupFit fit = {weights + r * n + begin,      block + begin, n, group_size,
                            static_cast<float>(rows.top), rows.stored};
      float& scale = rows.scales[static_cast<size_t>(r * rows.n_groups() + group)];
      float& bias = rows.biases[static_cast<size_t>(r * rows.n_groups() + group)];
      uint8_t* codes = rows.codes.data() + r * n + begin;
      float* errors = workspace.errors.data() + r * n + begin;
      fit_group(fit, codes, responses + r * group_size, ones.data(), gradients + r * group_size, errors, &scale, &bias);
      move_codes(fit, scale, bias, codes, gradients + r * group_size, errors);
    }
  }
}

double hessian_error(const Hessian& hessian, const float* errors, int n_rows, std::vector<float>& products,
                     const KernelTable& kernels) {
  const int64_t n = hessian.cols();
  grow(products, n_rows * kBlock);
  double total = 0.0;
  for (int64_t begin = 0; begin < n; begin += kBlock) {
    const int64_t width = std::min(kBlock, n - begin);
    multiply_transposed(kernels, errors, n, n_rows, hessian.matrix() + begin * n, n, width, n, products.data(), kBlock);
    for (int r = 0; r < n_rows; ++r) {
      for (int64_t i = 0; i < width; ++i) {
        total += static_cast<double>(errors[r * n + begin + i]) *
                 static_cast<double>(products[static_cast<size_t>(r * kBlock + i)]);
      }
    }
  }
  return total;
}

}  // namespace mobilellm
