/// Conversion of whole models between Hugging Face folders, mlx-lm folders and GGUF files.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "tensor/dtype.h"

namespace mobilellm {

class MatrixQuantizer;

enum class ModelFormat : uint8_t { kHuggingFace, kMlx, kGguf };

/// "hf", "mlx", "gguf".
const char* model_format_name(ModelFormat format);
std::optional<ModelFormat> find_model_format(std::string_view name);

struct ConvertOptions {
  std::string source;  ///< What open_checkpoint() takes.
  std::string target;  ///< Must not exist. A folder; for GGUF a file, or a folder when max_shard_bytes is set.
  ModelFormat format = ModelFormat::kHuggingFace;
  std::optional<DType> dtype;  ///< kF32, kF16 or kBF16 of all float tensors; unset: as stored.
  bool dequantize = false;     ///< Quantized tensors become float.
  /// Bytes of tensors in one file. Unset: 5 GiB for folders, one file for GGUF.
  std::optional<size_t> max_shard_bytes;
  MatrixQuantizer* quantizer = nullptr;       ///< Decides about matrices first; not for the target `hf`.
  std::function<void(double)> on_progress;    ///< 0 to 1.
  const std::atomic<bool>* cancel = nullptr;  ///< Looked at often; makes convert_model() throw kCancelled.
};

/// A quantized tensor whose values changed.
struct ChangedTensor {
  std::string name;  ///< In the source.
  std::string from;  ///< "affine 6 bits, group 64"
  std::string to;    ///< "Q8_0"
  double max_error = 0;
  double relative_error = 0;  ///< Root of (sum of squared errors / sum of squares).
};

struct ConvertReport {
  int64_t n_tensors = 0;
  int64_t n_parameters = 0;
  int64_t n_bytes = 0;  ///< Of all tensors.
  std::vector<ChangedTensor> changed;
  std::vector<std::string> notes;  ///< What a user should know, one sentence each.
};

/// Streams tensor by tensor; memory stays far below 1 GB whatever the model's size. The target appears when it is
/// complete and its headers, configuration and tokenizer were read back; on any error nothing is left. Throws what the
/// readers throw; kInvalidArgument for options that contradict each other or a target that exists; kUnsupported for
/// what the target cannot hold; kCorruptData for NaN or infinite weights; kIo; kCancelled.
ConvertReport convert_model(const ConvertOptions& options);

}  // namespace mobilellm
