/// What an interrupted quantization has finished: its plan, its quantized matrices and the best state of training, kept
/// beside the target.
#pragma once

#include <optional>
#include <span>
#include <string>

#include "base/error.h"
#include "base/part_store.h"
#include "codec/encode.h"
#include "quant/quantize_model.h"
#include "quant/storage_plan.h"

namespace mobilellm {

/// Everything that the bytes of a result depend on, as a text: options, the source's files by size and time, the
/// calibration text, the program. Throws what reading the calibration text does.
std::string run_identity(const QuantizeOptions& options);

/// Keeps parts in ".NAME.unfinished" beside the target. Parts of a run with another identity are removed. Where parts
/// cannot be kept, or the disk has no room for them and the target, they are removed; the run goes on, and a note says
/// why.
class KeptRun {
 public:
  /// Throws kInvalidArgument when another process keeps parts there, and as run_identity().
  explicit KeptRun(const QuantizeOptions& options);

  /// How many bytes the target will take: parts leave room for it.
  void expect_target(double n_bytes) { unwritten_ = n_bytes; }
  /// As an earlier run chose it; nothing when none did, or when it cannot be read.
  std::optional<StoragePlan> plan() const;
  void keep_plan(const StoragePlan& plan);
  /// Fills `out` and returns how it was reported; nothing when the matrix is not kept in this storage, or when it
  /// cannot be read. Matrices are restored or kept in the order in which the target takes them.
  std::optional<QuantizedMatrix> restore(const std::string& name, const std::string& storage, EncodedMatrix& out);
  void keep(const QuantizedMatrix& report, EncodedMatrix& matrix);
  /// Whether a matrix of this name is kept and whole.
  bool holds(const std::string& name) const;
  /// The best state of training so far: a text that names all settings of the training, its report, and its bytes.
  void keep_training(const std::string& settings, const DistillReport& report,
                     std::span<const std::span<std::byte>> state);
  /// Fills `state` and returns the report; nothing when no state of these settings and sizes is kept.
  std::optional<DistillReport> restore_training(const std::string& settings,
                                                std::span<const std::span<std::byte>> state);

  /// What a message about an interruption adds; "" when nothing is kept.
  std::string hint() const;
  /// Nothing is to be continued.
  void remove();
  /// Why the run keeps no parts; "" when it does.
  const std::string& note() const { return note_; }

 private:
  void save(const std::string& name, std::span<const std::span<const std::byte>> pieces);
  void give_up(const Error& error);

  std::optional<PartStore> store_;  // Nothing when parts cannot be kept.
  double unwritten_ = 0;            // Bytes of the target from this matrix on.
  std::string note_;
};

}  // namespace mobilellm
