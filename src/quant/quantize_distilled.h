/// Quantization by GPTQ, then distillation of the result.
#pragma once

#include "quant/quantize_model.h"

namespace mobilellm {

/// quantize_model() for method kDwq: the model is quantized by kGptq beside the target, trained, and takes the target's
/// name when it is complete. Throws as quantize_model().
QuantizeReport quantize_distilled(const QuantizeOptions& options);

}  // namespace mobilellm
