/// Tensors of a file matched with the roles of a spec: a report of every deviation, and the bound weights.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "codec/quantization_config.h"
#include "formats/weight_source.h"
#include "model/arch/registry.h"
#include "model/tensor_table.h"
#include "model/weights.h"

namespace mobilellm {

enum class TensorStatus : uint8_t {
  kOk,
  kMissing,     ///< The spec asks for it, the file lacks it.
  kUnexpected,  ///< No role has this name.
  kMisshaped,   ///< Its shape is not the expected one.
  kUnusable,    ///< Its type cannot hold weights here, or its quantization settings are wrong.
  kIgnored,     ///< Known and not needed, such as the output table of a tied model.
};

const char* to_string(TensorStatus status);

struct TensorCheck {
  std::string name;
  std::string type;               ///< "BF16", "Q4_K"; empty when missing.
  std::vector<int64_t> shape;     ///< As stored; empty when missing.
  std::vector<int64_t> expected;  ///< As it should be stored; empty when nothing expects it.
  TensorStatus status = TensorStatus::kOk;
  std::string note;  ///< What is wrong or special, for people; may be empty.
};

/// One role of the table and the tensors that fill it.
struct TensorMatch {
  const TensorView* weight = nullptr;
  const TensorView* scales = nullptr;  ///< Of packed groups.
  const TensorView* biases = nullptr;  ///< Of packed groups (affine).
  std::optional<QuantizationParams> quantization;
};

struct BindingReport {
  std::vector<TensorEntry> table;
  std::vector<TensorMatch> matches;  ///< One per table entry.
  std::vector<TensorCheck> checks;   ///< Roles in table order, then the file's other tensors.

  /// The first problem that stops loading, as a message without prefix; empty when there is none. Missing tensors are
  /// listed together.
  std::string first_error() const;
  /// How many tensors nothing asks for and the first names, as a message without prefix; empty when there is none.
  std::string unexpected_tensors() const;
};

/// Looks at names, types and shapes only, never at tensor data.
BindingReport match_tensors(const ModelDescription& description, const WeightSource& source,
                            const std::optional<QuantizationConfig>& quantization);

/// Binds every role. Matrices stay in the file; norms and biases become f32. Throws kCorruptData naming the tensor,
/// what it is and what was expected, or kUnsupported for a type that cannot be read; unexpected tensors are warnings.
ModelWeights bind_weights(const ModelDescription& description, std::shared_ptr<WeightSource> source,
                          const std::optional<QuantizationConfig>& quantization);

/// Names and shapes for the architectures.
TensorShapes tensor_shapes(const WeightSource& source);

}  // namespace mobilellm
