/// Quantization by YAQA, then distillation of the result.
#pragma once

#include "quant/quantize_model.h"

namespace mobilellm {

class KeptRun;

/// quantize_model() for method kDwq: the model is quantized by kYaqa beside the target, trained, and takes the target's
/// name when it is complete. `kept` takes what kYaqa finishes and the best state of training. Throws as
/// quantize_model().
QuantizeReport quantize_distilled(const QuantizeOptions& options, KeptRun& kept);

}  // namespace mobilellm
