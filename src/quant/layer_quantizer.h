/// Quantization of one linear layer onto MLX's affine groups, by plain rounding or so that its outputs change least.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "codec/encode.h"

namespace mobilellm {

class Hessian;
class InputMoments;
class ThreadPool;

enum class QuantMethod : uint8_t {
  kRtn,   ///< Rounds to the grid of mx.quantize; needs no calibration.
  kFit,   ///< Fits scale and bias of each group to the mean squares of the inputs, then rounds.
  kGptq,  ///< Fits grids, then rounds column by column, the most important first, later columns making up for the
          ///< errors of earlier ones; needs full moments. Last, grids and single codes are improved under all others'
          ///< errors.
  kYaqa,  ///< kGptq where rows make up for each other's errors too, as far as gradients say that their outputs act
          ///< alike (model-preserving adaptive rounding); needs moments of outputs.
  kDwq,   ///< kYaqa, then the whole model is distilled from the float one: of models, not of layers.
};

/// "rtn", "fit", "gptq", "yaqa", "dwq".
const char* quant_method_name(QuantMethod method);
/// Throws kInvalidArgument naming the known methods for another name.
QuantMethod parse_quant_method(std::string_view name);

/// One input's statistics in the form that a method needs: shared by all layers that read this input and all bit
/// widths. Immutable; the methods are pure functions of weights and statistics, the same for any number of threads.
class LayerQuantizer {
 public:
  /// `moments` may be null for kRtn, and must be full for kGptq and kYaqa; it is not kept. kFit takes either kind.
  /// Throws as Hessian for moments that do not fit the method.
  LayerQuantizer(QuantMethod method, const InputMoments* moments, ThreadPool& pool);
  ~LayerQuantizer();
  LayerQuantizer(LayerQuantizer&&) noexcept;
  LayerQuantizer& operator=(LayerQuantizer&&) noexcept;

  /// Quantizes rows [row_begin, row_end) of an affine matrix from weights [row_end - row_begin, cols], finite. Throws
  /// as encode_rows().
  void quantize_rows(const float* weights, int64_t row_begin, int64_t row_end, EncodedMatrix& out,
                     ThreadPool& pool) const;
  /// The same for kYaqa with moments of the gradients of just these rows' outputs.
  void quantize_rows_together(const float* weights, int64_t row_begin, int64_t row_end, const InputMoments& outputs,
                              EncodedMatrix& out, ThreadPool& pool) const;
  /// Expected squared error of the outputs per token, tr(E H E^T), of stored rows [row_begin, row_end) against their
  /// weights: by the full moments where the quantizer has them, else by their diagonal, else with H = 1.
  double error_of_rows(const float* weights, int64_t row_begin, int64_t row_end, const StoredMatrix& matrix,
                       ThreadPool& pool) const;

 private:
  bool walks() const { return method_ == QuantMethod::kGptq || method_ == QuantMethod::kYaqa; }
  std::vector<float> fit_weights(const StoredMatrix& format) const;

  QuantMethod method_;
  std::vector<float> diagonal_;  // Empty: ones.
  std::unique_ptr<const Hessian> hessian_;
};

}  // namespace mobilellm
