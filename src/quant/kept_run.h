/// What an interrupted quantization has finished: its plan and its quantized matrices, kept beside the target.
#pragma once

#include <optional>
#include <string>

#include "base/part_store.h"
#include "codec/encode.h"
#include "quant/quantize_model.h"
#include "quant/storage_plan.h"

namespace mobilellm {

/// Everything that the bytes of a result depend on, as a text: options, the source's files by size and time, the
/// calibration text, the program. Throws what reading the calibration text does.
std::string run_identity(const QuantizeOptions& options);

/// Keeps parts in ".NAME.unfinished" beside the target. Parts of a run with another identity are removed.
class KeptRun {
 public:
  /// Throws as PartStore.
  explicit KeptRun(const QuantizeOptions& options);

  /// As an earlier run chose it; nothing when none did.
  std::optional<StoragePlan> plan() const;
  void keep_plan(const StoragePlan& plan);
  /// Fills `out` and returns how it was reported; nothing when the matrix is not kept in this storage.
  std::optional<QuantizedMatrix> restore(const std::string& name, const std::string& storage, EncodedMatrix& out) const;
  void keep(const QuantizedMatrix& report, EncodedMatrix& matrix);

  /// What a message about an interruption adds; "" when nothing is kept.
  std::string hint() const;
  /// Nothing is to be continued.
  void remove() { store_.remove(); }

 private:
  PartStore store_;
};

}  // namespace mobilellm
