/// Where a pass reads its weights, and where gradients go.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "model/spec.h"
#include "model/tensor_table.h"
#include "model/weights.h"

namespace mobilellm {

class ThreadPool;

class WeightReader {
 public:
  virtual ~WeightReader() = default;
  /// Rows [row_begin, row_end) of a matrix as f32 [rows, in], in `buffer` (grown as needed) or where they lie.
  virtual const float* rows(TensorRole role, int layer, int64_t row_begin, int64_t row_end,
                            std::vector<float>& buffer) = 0;
  /// A norm or bias; empty when the model has none.
  virtual std::span<const float> vector(TensorRole role, int layer) = 0;

 protected:
  WeightReader() = default;
  WeightReader(const WeightReader&) = default;
  WeightReader& operator=(const WeightReader&) = default;
};

/// The matrix of a role; layer as in TensorEntry.
const LinearWeights& linear_of(const LayerWeights& layer, TensorRole role);
const StoredMatrix& matrix_of(const ModelWeights& weights, TensorRole role, int layer);
/// The norm or bias of a role; empty when the model has none.
const std::vector<float>& vector_of(const ModelWeights& weights, TensorRole role, int layer);
/// All matrices of a model: embedding, output table of its own, then layer by layer in the order of TensorRole.
struct MatrixId {
  TensorRole role;
  int layer;
  bool operator==(const MatrixId&) const = default;
};
std::vector<MatrixId> matrices_of(const ModelSpec& spec);
/// The table that the output projection reads.
TensorRole output_role(const ModelSpec& spec);

/// Decodes the weights of a loaded model as they are asked for.
class ModelWeightReader final : public WeightReader {
 public:
  /// Both must stay.
  ModelWeightReader(const ModelWeights& weights, ThreadPool& pool) : weights_(weights), pool_(pool) {}
  const float* rows(TensorRole role, int layer, int64_t row_begin, int64_t row_end,
                    std::vector<float>& buffer) override;
  std::span<const float> vector(TensorRole role, int layer) override { return vector_of(weights_, role, layer); }

 private:
  const ModelWeights& weights_;
  ThreadPool& pool_;
};

/// Receives gradients of a backward pass as soon as they are known, each once, from the last layer to the first; the
/// tied table last. Pointers are valid during the call.
class GradientSink {
 public:
  virtual ~GradientSink() = default;
  /// Whether to compute the gradient of this matrix at all.
  virtual bool wants(TensorRole role, int layer) = 0;
  /// [out, in]
  virtual void matrix_gradient(TensorRole role, int layer, const float* gradient) = 0;
  virtual void vector_gradient(TensorRole /*role*/, int /*layer*/, std::span<const float> /*gradient*/) {}
  /// Gradient of what the matrix gives before its bias, [n_tokens, rows].
  virtual void output_gradient(TensorRole /*role*/, int /*layer*/, const float* /*d_y*/, int64_t /*n_tokens*/,
                               int64_t /*rows*/) {}
  /// What the matrix read, x [n_tokens, cols], beside that gradient: together they are the gradient of the matrix, sum
  /// over tokens of d_y x^T, without its cost.
  virtual void token_gradients(TensorRole /*role*/, int /*layer*/, const float* /*x*/, int64_t /*cols*/,
                               const float* /*d_y*/, int64_t /*rows*/, int64_t /*n_tokens*/) {}
  /// Gradient of the embedded tokens, [n_tokens, d_model].
  virtual void embedding_gradient(std::span<const int32_t> /*tokens*/, const float* /*d_rows*/) {}

 protected:
  GradientSink() = default;
  GradientSink(const GradientSink&) = default;
  GradientSink& operator=(const GradientSink&) = default;
};

}  // namespace mobilellm
