/// A model whose affine groups are trained: codes with scales and biases that gradients move.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "backprop/weight_reader.h"
#include "model/spec.h"
#include "model/weights.h"

namespace mobilellm {

class ThreadPool;

/// Sizes of one update.
struct StudentStep {
  int64_t index = 0;     ///< Counted from 1, for Adam's corrections.
  double grid_rate = 0;  ///< How far weights move through scales and biases, in units of the scale.
  double code_rate = 0;  ///< How far weights move towards other codes, in units of the scale; 0 leaves codes alone.
};

/// One matrix of affine groups. The weights are scale * code + bias with both rounded to the type of the file;
/// gradients pass the roundings as if they were not there (straight through).
struct StudentMatrix {
  MatrixId id;
  int64_t rows = 0;
  int64_t cols = 0;
  int bits = 0;
  int group_size = 0;
  DType stored = DType::kF32;
  std::vector<uint8_t> codes;    ///< [rows, cols]
  std::vector<float> scales;     ///< [rows, cols / group_size], not rounded.
  std::vector<float> centers;    ///< Mean of the group's codes at the start.
  std::vector<float> levels;     ///< scale * center + bias, not rounded: nearly independent of the scale.
  std::vector<float> units;      ///< Magnitude of the scale at the start.
  std::vector<float> moments;    ///< Adam's, four per group.
  std::vector<float> positions;  ///< [rows, cols] where codes would be if they were no integers; empty: fixed codes.
  std::vector<float> position_moments;  ///< First moments, [rows, cols].
  std::vector<float> position_squares;  ///< Second moments, one per group.

  int64_t n_groups() const { return rows * (cols / group_size); }
  float scale(int64_t group) const;
  float bias(int64_t group) const;
};

/// Reads weights for a pass and takes its gradients: every matrix is updated as soon as its gradient is known, so that
/// no gradient is kept.
class AffineStudent final : public WeightReader, public GradientSink {
 public:
  /// Takes codes and grids from a quantized model; its other weights are read from it and stay as they are. `weights`
  /// and `pool` must stay. With `moving`, codes move too, from where the weights of that float model lie between them;
  /// its rows must be in the same order. Takes 8 more bytes per weight.
  AffineStudent(const ModelSpec& spec, const ModelWeights& weights, const ModelWeights* moving, ThreadPool& pool);

  /// Before each backward pass.
  void set_step(const StudentStep& step);
  /// Zeros [vocab_size, d_model] for the gradient of the output table, or null when the table does not train. Its
  /// update follows in embedding_gradient() for tied models, else in end_table().
  float* start_table();
  void end_table();

  const std::vector<StudentMatrix>& matrices() const { return matrices_; }
  /// The stored parts that training changed, to go back to.
  struct Snapshot {
    std::vector<std::vector<uint8_t>> codes;
    std::vector<std::vector<float>> scales, biases;
  };
  Snapshot snapshot() const;
  /// Everything that steps change, to be kept and to be filled with what another student of the same model kept.
  std::vector<std::span<std::byte>> state();

  const float* rows(TensorRole role, int layer, int64_t row_begin, int64_t row_end,
                    std::vector<float>& buffer) override;
  std::span<const float> vector(TensorRole role, int layer) override { return plain_.vector(role, layer); }
  bool wants(TensorRole role, int layer) override { return find(role, layer) != nullptr; }
  void matrix_gradient(TensorRole role, int layer, const float* gradient) override;
  void embedding_gradient(std::span<const int32_t> tokens, const float* d_rows) override;

 private:
  StudentMatrix* find(TensorRole role, int layer);
  void update_group(StudentMatrix& matrix, int64_t group, const float* gradient) const;

  ModelSpec spec_;
  ThreadPool& pool_;
  ModelWeightReader plain_;
  std::vector<StudentMatrix> matrices_;
  std::vector<float> table_;
  StudentStep step_;
  float correct1_ = 1.0F, correct2_ = 1.0F;  // Of Adam's moments.
};

}  // namespace mobilellm
