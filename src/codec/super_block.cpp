// Choice of scales, minima and codes of a GGUF super-block.
#include "codec/super_block.h"

#include <algorithm>
#include <cmath>

#include "codec/affine_fit.h"
#include "codec/block_search.h"
#include "tensor/dtype.h"

namespace mobilellm {
namespace {

float to_fp16(float value) { return round_to_stored(value, DType::kF16); }

float level_value(int code) { return static_cast<float>(kNonlinearLevels[code]); }

// Codes of one sub-block for x ~ step * q - offset; what the search left stays where the step is zero.
void round_codes(const SuperBlockShape& shape, const float* x, float step, float offset, uint8_t* codes) {
  if (step == 0.0F) return;
  for (int i = 0; i < shape.block_values(); ++i) {
    codes[i] =
        static_cast<uint8_t>(nearest_within((x[i] + offset) / step, shape.code_low, shape.code_high) - shape.code_low);
  }
}

void round_all_codes(const SuperBlockShape& shape, const float* x, SuperBlock& out) {
  const int n = shape.block_values();
  for (int s = 0; s < shape.n_blocks; ++s) {
    round_codes(shape, x + n * s, out.d * static_cast<float>(out.scales[s]), out.dmin * static_cast<float>(out.mins[s]),
                out.codes + n * s);
  }
}

// ---- As the reference quantizers choose.

// Weights of a sub-block, which the reference makes from the values themselves.
void value_weights(const SuperBlockShape& shape, const float* x, float* weights) {
  const int n = shape.block_values();
  if (!shape.has_minimum) {
    for (int i = 0; i < n; ++i) weights[i] = x[i] * x[i];
    return;
  }
  float base = 0.0F;
  if (shape.code_high > kShapeQ2K.code_high) {
    float sum = 0.0F;
    for (int i = 0; i < n; ++i) sum += x[i] * x[i];
    base = std::sqrt(sum / static_cast<float>(n));
  }
  for (int i = 0; i < n; ++i) weights[i] = base + std::fabs(x[i]);
}

ScaleSteps reference_steps(const SuperBlockShape& shape) {
  if (shape.code_high == kShapeQ2K.code_high) return {-0.5F, 0.1F, 15, true};
  if (shape.code_high == kShapeQ4K.code_high) return {-1.0F, 0.1F, 20, false};
  return {-0.5F, 0.1F, 15, false};
}

// Integers in [0, top] for numbers >= 0, the largest at the top. Returns their unit before rounding to fp16.
float share_range(const float* values, int n, int top, int* integers) {
  const float max = *std::max_element(values, values + n);
  if (!(max > 0.0F)) return 0.0F;
  const float inverse = static_cast<float>(top) / max;
  for (int s = 0; s < n; ++s) integers[s] = nearest_within(inverse * values[s], 0, top);
  return max / static_cast<float>(top);
}

void choose_with_minimum(const SuperBlockShape& shape, const float* x, SuperBlock& out) {
  const int n = shape.block_values();
  const ScaleSteps steps = reference_steps(shape);
  float scales[kMaxSubBlocks] = {};
  float mins[kMaxSubBlocks];
  float weights[kMaxBlockValues];
  for (int s = 0; s < shape.n_blocks; ++s) {
    value_weights(shape, x + n * s, weights);
    scales[s] = fit_with_minimum(x + n * s, weights, n, shape.code_high, steps, out.codes + n * s, &mins[s]);
  }
  out.d = to_fp16(share_range(scales, shape.n_blocks, shape.scale_high, out.scales));
  out.dmin = to_fp16(share_range(mins, shape.n_blocks, shape.scale_high, out.mins));
  round_all_codes(shape, x, out);
}

// Integers for scales of either sign, the extreme one at scale_low. Returns their unit before rounding to fp16.
float share_symmetric(const SuperBlockShape& shape, const float* scales, int* integers) {
  const float extreme = find_extreme(scales, shape.n_blocks);
  if (std::fabs(extreme) < kZeroMagnitude) return 0.0F;
  const float inverse = static_cast<float>(shape.scale_low) / extreme;
  for (int s = 0; s < shape.n_blocks; ++s) {
    integers[s] = nearest_within(inverse * scales[s], shape.scale_low, shape.scale_high);
  }
  return 1.0F / inverse;
}

void choose_symmetric(const SuperBlockShape& shape, const float* x, SuperBlock& out) {
  const int n = shape.block_values();
  float scales[kMaxSubBlocks] = {};
  for (int s = 0; s < shape.n_blocks; ++s) {
    int8_t codes[kMaxBlockValues];
    if (shape.code_high == kShapeQ3K.code_high) {
      scales[s] = descend_symmetric(x + n * s, n, -shape.code_low, codes);
    } else {
      float weights[kMaxBlockValues];
      value_weights(shape, x + n * s, weights);
      scales[s] = fit_symmetric(x + n * s, weights, n, -shape.code_low, codes);
    }
    for (int i = 0; i < n; ++i) out.codes[n * s + i] = static_cast<uint8_t>(codes[i] - shape.code_low);
  }
  out.d = to_fp16(share_symmetric(shape, scales, out.scales));
  round_all_codes(shape, x, out);
}

void choose_levels(const SuperBlockShape& shape, const float* x, SuperBlock& out) {
  const int n = shape.block_values();
  float scales[kMaxSubBlocks] = {};
  for (int s = 0; s < shape.n_blocks; ++s) {
    float weights[kMaxBlockValues];
    value_weights(shape, x + n * s, weights);
    scales[s] = fit_levels(x + n * s, weights, n);
  }
  // The codes belong to the unit before its rounding.
  const float d = find_extreme(scales, shape.n_blocks) / static_cast<float>(shape.scale_low);
  const float inverse = d != 0.0F ? 1.0F / d : 0.0F;
  out.d = to_fp16(d);
  for (int s = 0; s < shape.n_blocks; ++s) {
    out.scales[s] = nearest_within(inverse * scales[s], shape.scale_low, shape.scale_high);
    const float step = d * static_cast<float>(out.scales[s]);
    const float inverse_step = step != 0.0F ? 1.0F / step : 0.0F;
    for (int i = n * s; i < n * (s + 1); ++i) out.codes[i] = static_cast<uint8_t>(nearest_level(inverse_step * x[i]));
  }
}

// ---- For the least weighted error.

// What a code stands for.
float code_value(const SuperBlockShape& shape, int index) {
  return shape.has_levels ? level_value(index) : static_cast<float>(index + shape.code_low);
}

int nearest_code(const SuperBlockShape& shape, float x) {
  return shape.has_levels ? nearest_level(x) : nearest_within(x, shape.code_low, shape.code_high) - shape.code_low;
}

// Weighted error of a sub-block with the best codes for x ~ step * q - offset.
float block_error(const SuperBlockShape& shape, const float* x, const float* weights, float step, float offset) {
  const float inverse = step != 0.0F ? 1.0F / step : 0.0F;
  float error = 0.0F;
  for (int i = 0; i < shape.block_values(); ++i) {
    const float q = code_value(shape, nearest_code(shape, (x[i] + offset) * inverse));
    const float difference = step * q - offset - x[i];
    error += weights[i] * difference * difference;
  }
  return error;
}

float step_of(const SuperBlock& block, int s) { return block.d * static_cast<float>(block.scales[s]); }
float offset_of(const SuperBlock& block, int s) { return block.dmin * static_cast<float>(block.mins[s]); }

// Moves the integer scale and minimum of every sub-block to the best neighbours. Returns the error of all.
float move_integers(const SuperBlockShape& shape, const float* x, const float* weights, SuperBlock& block) {
  const int n = shape.block_values();
  float total = 0.0F;
  for (int s = 0; s < shape.n_blocks; ++s) {
    const int scale = block.scales[s];
    const int min = block.mins[s];
    const int reach = shape.has_minimum ? 1 : 0;
    float best = block_error(shape, x + n * s, weights + n * s, step_of(block, s), offset_of(block, s));
    for (int i = scale - 1; i <= scale + 1; ++i) {
      for (int j = min - reach; j <= min + reach; ++j) {
        if (i < shape.scale_low || i > shape.scale_high || j < 0 || j > shape.scale_high) continue;
        const float error = block_error(shape, x + n * s, weights + n * s, block.d * static_cast<float>(i),
                                        block.dmin * static_cast<float>(j));
        if (!(error < best)) continue;
        best = error;
        block.scales[s] = i;
        block.mins[s] = j;
      }
    }
    total += best;
  }
  return total;
}

// Least squares over d and dmin for the codes that the block has now.
void refit_units(const SuperBlockShape& shape, const float* x, const float* weights, SuperBlock& block) {
  const int n = shape.block_values();
  double aa = 0.0, ab = 0.0, bb = 0.0, ax = 0.0, bx = 0.0;
  for (int s = 0; s < shape.n_blocks; ++s) {
    const float step = step_of(block, s);
    const float inverse = step != 0.0F ? 1.0F / step : 0.0F;
    const double b = -block.mins[s];
    for (int i = n * s; i < n * (s + 1); ++i) {
      const double w = static_cast<double>(weights[i]);
      const double a =
          static_cast<double>(code_value(shape, nearest_code(shape, (x[i] + offset_of(block, s)) * inverse))) *
          block.scales[s];
      aa += w * a * a;
      ab += w * a * b;
      bb += w * b * b;
      ax += w * a * static_cast<double>(x[i]);
      bx += w * b * static_cast<double>(x[i]);
    }
  }
  const double determinant = aa * bb - ab * ab;
  if (determinant > 1e-9 * aa * bb) {
    block.d = to_fp16(static_cast<float>((ax * bb - bx * ab) / determinant));
    block.dmin = to_fp16(static_cast<float>((bx * aa - ax * ab) / determinant));
  } else if (aa > 0.0) {
    block.d = to_fp16(static_cast<float>((ax - ab * static_cast<double>(block.dmin)) / aa));
  }
}

// A first choice: every sub-block fitted alone, then their scales (and minima) fitted to integers.
void start_fit(const SuperBlockShape& shape, const float* x, const float* weights, SuperBlock& out) {
  const int n = shape.block_values();
  float scales[kMaxSubBlocks] = {};
  float mins[kMaxSubBlocks] = {};
  float block_weights[kMaxSubBlocks];
  for (int s = 0; s < shape.n_blocks; ++s) {
    const float* values = x + n * s;
    const float* w = weights + n * s;
    block_weights[s] = 0.0F;
    for (int i = 0; i < n; ++i) block_weights[s] += w[i];
    uint8_t codes[kMaxBlockValues];
    int8_t signed_codes[kMaxBlockValues];
    if (shape.has_minimum) {
      scales[s] = fit_with_minimum(values, w, n, shape.code_high, {-0.9F, 0.05F, 36, false}, codes, &mins[s]);
    } else if (shape.has_levels) {
      scales[s] = fit_levels(values, w, n);
    } else {
      scales[s] = fit_symmetric(values, w, n, -shape.code_low, signed_codes);
    }
  }
  if (!shape.has_minimum) {
    out.d = to_fp16(share_symmetric(shape, scales, out.scales));
    return;
  }
  uint8_t integers[kMaxSubBlocks];
  out.d = to_fp16(fit_nonnegative(scales, block_weights, shape.n_blocks, shape.scale_high, integers));
  std::copy_n(integers, shape.n_blocks, out.scales);
  out.dmin = to_fp16(fit_nonnegative(mins, block_weights, shape.n_blocks, shape.scale_high, integers));
  std::copy_n(integers, shape.n_blocks, out.mins);
}

}  // namespace

void choose_super_block(const SuperBlockShape& shape, const float* x, SuperBlock& out) {
  if (shape.has_levels) {
    choose_levels(shape, x, out);
  } else if (shape.has_minimum) {
    choose_with_minimum(shape, x, out);
  } else {
    choose_symmetric(shape, x, out);
  }
}

void choose_super_block(const SuperBlockShape& shape, const float* x, const float* importance, SuperBlock& out) {
  float weights[kSuperBlockValues];
  make_fit_weights(importance, kSuperBlockValues, weights);
  start_fit(shape, x, weights, out);
  constexpr int kRounds = 4;
  float best = move_integers(shape, x, weights, out);
  for (int round = 0; round < kRounds; ++round) {
    SuperBlock trial = out;
    refit_units(shape, x, weights, trial);
    const float error = move_integers(shape, x, weights, trial);
    if (!(error < best)) break;
    best = error;
    out = trial;
  }
  const int n = shape.block_values();
  for (int s = 0; s < shape.n_blocks; ++s) {
    const float step = step_of(out, s);
    const float inverse = step != 0.0F ? 1.0F / step : 0.0F;
    for (int i = n * s; i < n * (s + 1); ++i) {
      out.codes[i] = static_cast<uint8_t>(nearest_code(shape, (x[i] + offset_of(out, s)) * inverse));
    }
  }
}

}  // namespace mobilellm
