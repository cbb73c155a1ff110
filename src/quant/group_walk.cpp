// Blocks and groups of one row.
#include "quant/group_walk.h"

#include <cmath>

#include "codec/affine_fit.h"

namespace mobilellm {
namespace {

// Half to even for |x| < 2^22, within [0, top]; 0 for NaN.
inline float round_code(float x, float top) {
  constexpr float kShift = 12582912.0F;  // 1.5 * 2^23: its unit is 1.
  const float raised = x > 0.0F ? x : 0.0F;
  return ((raised < top ? raised : top) + kShift) - kShift;
}

}  // namespace

void walk_block(const BlockArgs& args, float* pending, float* errors, uint8_t* codes) {
  for (int64_t i = args.width; i-- > 0;) {
    const int32_t col = args.order[i];
    const int group = col / args.group_size;
    const float scale = args.scales[group];
    const float bias = args.biases[group];
    const float shift = args.shifts == nullptr ? 0.0F : args.shifts[i];
    const float target = args.weights[col] + shift + pending[i] * args.inverse[i];
    const float code = round_code((target - bias) / scale, args.top);
    const float error = args.weights[col] - (scale * code + bias);
    codes[col] = static_cast<uint8_t>(static_cast<int>(code));
    errors[i] = error;
    const float* column = args.columns + i * args.width;
    for (int64_t j = 0; j < i; ++j) pending[j] += column[j] * error;
  }
}

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

}  // namespace mobilellm
