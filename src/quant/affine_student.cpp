// Adam on grids and codes of affine groups.
#include "quant/affine_student.h"

#include <algorithm>
#include <cmath>

#include "base/thread_pool.h"
#include "codec/affine_fit.h"

namespace mobilellm {
namespace {

constexpr float kBeta1 = 0.9F;
constexpr float kBeta2 = 0.95F;
constexpr float kEpsilon = 1e-12F;
constexpr int64_t kTaskRows = 16;
// How far from its code a position may start.
constexpr float kReach = 0.45F;

template <typename Task>
void for_rows(ThreadPool& pool, int64_t n_rows, Task task) {
  pool.run((n_rows + kTaskRows - 1) / kTaskRows, [&](int64_t index, int /*worker*/) {
    const int64_t begin = index * kTaskRows;
    task(begin, std::min(begin + kTaskRows, n_rows));
  });
}

// Half to even for |x| < 2^22.
inline float round_small(float x) {
  constexpr float kShift = 12582912.0F;  // 1.5 * 2^23: its unit is 1.
  return (x + kShift) - kShift;
}

// Adam's step of size 1 for a gradient, with moments {first, second}.
inline float adam(float gradient, float* moments, float correct1, float correct2) {
  moments[0] += (1.0F - kBeta1) * (gradient - moments[0]);
  moments[1] += (1.0F - kBeta2) * (gradient * gradient - moments[1]);
  return moments[0] * correct1 / (std::sqrt(moments[1] * correct2) + kEpsilon);
}

}  // namespace

float StudentMatrix::scale(int64_t group) const { return round_to_stored(scales[static_cast<size_t>(group)], stored); }

float StudentMatrix::bias(int64_t group) const {
  // The level is kept with the rounded scale, so that rounding the scale does not shift the whole group.
  const auto i = static_cast<size_t>(group);
  return round_to_stored(levels[i] - scale(group) * centers[i], stored);
}

AffineStudent::AffineStudent(const ModelSpec& spec, const ModelWeights& weights, const ModelWeights* moving,
                             ThreadPool& pool)
    : spec_(spec), pool_(pool), plain_(weights, pool) {
  for (const MatrixId& id : matrices_of(spec)) {
    const StoredMatrix& source = matrix_of(weights, id.role, id.layer);
    if (source.codec != find_codec("affine")) continue;
    StudentMatrix& matrix = matrices_.emplace_back();
    matrix.id = id;
    matrix.rows = source.rows;
    matrix.cols = source.cols;
    matrix.bits = source.bits;
    matrix.group_size = source.group_size;
    matrix.stored = source.scale_dtype;
    const int64_t row_groups = source.cols / source.group_size;
    const auto n_groups = static_cast<size_t>(matrix.n_groups());
    matrix.codes.resize(static_cast<size_t>(source.rows * source.cols));
    matrix.scales.resize(n_groups);
    matrix.centers.resize(n_groups);
    matrix.levels.resize(n_groups);
    matrix.units.resize(n_groups);
    matrix.moments.resize(4 * n_groups);
    if (moving != nullptr) {
      matrix.positions.resize(matrix.codes.size());
      matrix.position_moments.resize(matrix.codes.size());
      matrix.position_squares.resize(n_groups);
    }
    for_rows(pool, source.rows, [&](int64_t begin, int64_t end) {
      std::vector<float> biases(static_cast<size_t>(row_groups));
      std::vector<float> values;
      for (int64_t row = begin; row < end; ++row) {
        uint8_t* codes = matrix.codes.data() + row * source.cols;
        source.codec->read_integers(source, row,
                                    {codes, matrix.scales.data() + row * row_groups, biases.data(), nullptr, nullptr});
        // Codes of 8 bits come as signed ones.
        for (int64_t i = 0; i < source.cols && source.bits == 8; ++i) codes[i] = static_cast<uint8_t>(codes[i] + 128);
        for (int64_t g = 0; g < row_groups; ++g) {
          const auto group = static_cast<size_t>(row * row_groups + g);
          float sum = 0.0F;
          for (int64_t i = 0; i < source.group_size; ++i) sum += static_cast<float>(codes[g * source.group_size + i]);
          matrix.centers[group] = sum / static_cast<float>(source.group_size);
          matrix.levels[group] = matrix.scales[group] * matrix.centers[group] + biases[static_cast<size_t>(g)];
          matrix.units[group] = std::fabs(matrix.scales[group]);
        }
        if (moving == nullptr) continue;
        const StoredMatrix& floats = matrix_of(*moving, id.role, id.layer);
        values.resize(static_cast<size_t>(source.cols));
        floats.codec->decode_rows(floats, row, row + 1, values.data());
        for (int64_t i = 0; i < source.cols; ++i) {
          const auto group = static_cast<size_t>(row * row_groups + i / source.group_size);
          const float scale = matrix.scales[group];
          const float code = codes[i];
          // Codes that make up for others' errors lie far from the weight; they start at the near end of their range.
          const float exact =
              scale == 0.0F ? code
                            : (values[static_cast<size_t>(i)] - matrix.levels[group]) / scale + matrix.centers[group];
          matrix.positions[static_cast<size_t>(row * source.cols + i)] =
              std::clamp(exact, code - kReach, code + kReach);
        }
      }
    });
  }
}

void AffineStudent::set_step(const StudentStep& step) {
  step_ = step;
  const auto index = static_cast<double>(step.index);
  correct1_ = static_cast<float>(1.0 / (1.0 - std::pow(static_cast<double>(kBeta1), index)));
  correct2_ = static_cast<float>(1.0 / (1.0 - std::pow(static_cast<double>(kBeta2), index)));
}

StudentMatrix* AffineStudent::find(TensorRole role, int layer) {
  for (StudentMatrix& matrix : matrices_) {
    if (matrix.id == MatrixId{role, layer}) return &matrix;
  }
  return nullptr;
}

const float* AffineStudent::rows(TensorRole role, int layer, int64_t row_begin, int64_t row_end,
                                 std::vector<float>& buffer) {
  const StudentMatrix* matrix = find(role, layer);
  if (matrix == nullptr) return plain_.rows(role, layer, row_begin, row_end, buffer);
  const int64_t cols = matrix->cols;
  buffer.resize(std::max(buffer.size(), static_cast<size_t>((row_end - row_begin) * cols)));
  for_rows(pool_, row_end - row_begin, [&](int64_t begin, int64_t end) {
    const int64_t row_groups = cols / matrix->group_size;
    for (int64_t group = (row_begin + begin) * row_groups; group < (row_begin + end) * row_groups; ++group) {
      const float scale = matrix->scale(group);
      const float bias = matrix->bias(group);
      const uint8_t* codes = matrix->codes.data() + group * matrix->group_size;
      float* out = buffer.data() + (group * matrix->group_size - row_begin * cols);
      for (int i = 0; i < matrix->group_size; ++i) out[i] = scale * static_cast<float>(codes[i]) + bias;
    }
  });
  return buffer.data();
}

void AffineStudent::update_group(StudentMatrix& matrix, int64_t group, const float* gradient) const {
  const auto g = static_cast<size_t>(group);
  const float unit = matrix.units[g];
  if (!(unit > 0.0F)) return;
  uint8_t* codes = matrix.codes.data() + group * matrix.group_size;
  float d_scale = 0.0F;
  float d_level = 0.0F;
  float squares = 0.0F;
  for (int i = 0; i < matrix.group_size; ++i) {
    d_scale += gradient[i] * (static_cast<float>(codes[i]) - matrix.centers[g]);
    d_level += gradient[i];
    squares += gradient[i] * gradient[i];
  }
  // A scale moves the codes at its ends a quarter of the range as far as a level moves all.
  const float spread = 4.0F / static_cast<float>(1 << matrix.bits);
  const auto rate = static_cast<float>(step_.grid_rate) * unit;
  float* moments = matrix.moments.data() + 4 * group;
  matrix.scales[g] -= rate * spread * adam(d_scale, moments, correct1_, correct2_);
  matrix.levels[g] -= rate * adam(d_level, moments + 2, correct1_, correct2_);
  if (matrix.positions.empty() || step_.code_rate == 0.0) return;
  // All codes of a group share a second moment.
  float& square = matrix.position_squares[g];
  square += (1.0F - kBeta2) * (squares / static_cast<float>(matrix.group_size) - square);
  const float sign = matrix.scales[g] < 0.0F ? -1.0F : 1.0F;
  const float step =
      sign * static_cast<float>(step_.code_rate) * correct1_ / (std::sqrt(square * correct2_) + kEpsilon);
  const auto top = static_cast<float>((1 << matrix.bits) - 1);
  float* positions = matrix.positions.data() + group * matrix.group_size;
  float* first = matrix.position_moments.data() + group * matrix.group_size;
  for (int i = 0; i < matrix.group_size; ++i) {
    first[i] += (1.0F - kBeta1) * (gradient[i] - first[i]);
    const float moved = positions[i] - step * first[i];
    positions[i] = std::min(std::max(moved, 0.0F), top);
    codes[i] = static_cast<uint8_t>(static_cast<int>(round_small(positions[i])));
  }
}

void AffineStudent::matrix_gradient(TensorRole role, int layer, const float* gradient) {
  StudentMatrix& matrix = *find(role, layer);
  const int64_t row_groups = matrix.cols / matrix.group_size;
  for_rows(pool_, matrix.rows, [&](int64_t begin, int64_t end) {
    for (int64_t group = begin * row_groups; group < end * row_groups; ++group) {
      update_group(matrix, group, gradient + group * matrix.group_size);
    }
  });
}

float* AffineStudent::start_table() {
  if (find(output_role(spec_), -1) == nullptr) return nullptr;
  table_.assign(static_cast<size_t>(spec_.vocab_size) * static_cast<size_t>(spec_.d_model), 0.0F);
  return table_.data();
}

void AffineStudent::end_table() {
  if (spec_.is_output_tied || table_.empty()) return;
  matrix_gradient(TensorRole::kLmHead, -1, table_.data());
}

void AffineStudent::embedding_gradient(std::span<const int32_t> tokens, const float* d_rows) {
  if (find(TensorRole::kEmbedTokens, -1) == nullptr) return;
  if (!spec_.is_output_tied) {
    table_.assign(static_cast<size_t>(spec_.vocab_size) * static_cast<size_t>(spec_.d_model), 0.0F);
  }
  const int64_t width = spec_.d_model;
  for (size_t i = 0; i < tokens.size(); ++i) {
    for (int64_t d = 0; d < width; ++d) {
      table_[static_cast<size_t>(tokens[i] * width + d)] += d_rows[static_cast<int64_t>(i) * width + d];
    }
  }
  matrix_gradient(TensorRole::kEmbedTokens, -1, table_.data());
}

std::vector<std::span<std::byte>> AffineStudent::state() {
  std::vector<std::span<std::byte>> parts;
  for (StudentMatrix& matrix : matrices_) {
    for (std::vector<float>* values : {&matrix.scales, &matrix.levels, &matrix.moments, &matrix.positions,
                                       &matrix.position_moments, &matrix.position_squares}) {
      parts.push_back(std::as_writable_bytes(std::span(*values)));
    }
    if (!matrix.positions.empty()) parts.push_back(std::as_writable_bytes(std::span(matrix.codes)));
  }
  return parts;
}

AffineStudent::Snapshot AffineStudent::snapshot() const {
  Snapshot result;
  for (const StudentMatrix& matrix : matrices_) {
    result.codes.push_back(matrix.codes);
    std::vector<float>& scales = result.scales.emplace_back();
    std::vector<float>& biases = result.biases.emplace_back();
    for (int64_t group = 0; group < matrix.n_groups(); ++group) {
      scales.push_back(matrix.scale(group));
      biases.push_back(matrix.bias(group));
    }
  }
  return result;
}

}  // namespace mobilellm
