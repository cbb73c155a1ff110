// Candidates for every matrix, and the choice among them.
#include "quant/plan_storage.h"

#include <algorithm>

#include "base/error.h"
#include "convert/float_rows.h"

namespace mobilellm {
namespace {

// Pieces of text for sensitivities.
constexpr size_t kPieceTokens = 128;
constexpr size_t kPieces = 8;

const StorageOverride* find_override(const QuantizeOptions& options, const TensorEntry& entry) {
  constexpr std::string_view kSuffix = ".weight";
  std::string_view name = entry.names.front();
  if (name.ends_with(kSuffix)) name.remove_suffix(kSuffix.size());
  const StorageOverride* found = nullptr;
  for (const StorageOverride& override : options.overrides) {
    if (matches_pattern(override.pattern, name)) found = &override;
  }
  return found;
}

MatrixStorage usual_storage(const QuantizeOptions& options, const ModelSpec& spec, const TensorEntry& entry) {
  if (options.recipe != nullptr) return options.recipe->choose_for(spec, entry.role, entry.layer, entry.shape[1]);
  MatrixStorage storage;
  if (options.format == ModelFormat::kGguf) {
    storage.block_type = options.block_type;
  } else {
    storage.params = options.params;
  }
  return storage;
}

// Every storage a mixture may use for rows of `cols` values.
std::vector<MatrixStorage> all_storages(const QuantizeOptions& options, DType scale_dtype, int64_t cols) {
  std::vector<MatrixStorage> storages;
  if (options.format == ModelFormat::kGguf) {
    for (const DType type : {DType::kQ2_K, DType::kQ3_K, DType::kQ4_K, DType::kQ5_K, DType::kQ6_K, DType::kQ8_0,
                             DType::kIQ4_XS, DType::kIQ4_NL, DType::kQ4_0, DType::kQ4_1, DType::kQ5_0, DType::kQ5_1}) {
      if (cols % dtype_info(type).block_values == 0) storages.emplace_back().block_type = type;
    }
    return storages;
  }
  for (const int bits : {2, 3, 4, 5, 6, 8}) {
    for (const int group : {32, 64, 128}) {
      if (options.target_group && group != *options.target_group) continue;
      if (cols % group == 0) storages.push_back({DType::kU32, {QuantMode::kAffine, bits, group}, scale_dtype});
    }
  }
  return storages;
}

// The type of values that stay float; also that of affine scales.
DType kept_type(const StoredMatrix& matrix) {
  if (is_float_dtype(matrix.dtype)) return matrix.dtype;
  return matrix.bits != 0 && is_float_dtype(matrix.scale_dtype) ? matrix.scale_dtype : DType::kBF16;
}

double bits_of(DType type) { return 8 * static_cast<double>(dtype_info(type).block_bytes); }

}  // namespace

StoragePlan plan_fixed(const QuantizeOptions& options, const ModelSpec& spec, std::span<const TensorEntry> matrices) {
  StoragePlan plan;
  for (const TensorEntry& entry : matrices) {
    PlannedStorage& planned = plan[{entry.role, entry.layer}];
    const StorageOverride* override = find_override(options, entry);
    const std::optional<MatrixStorage> wanted =
        override != nullptr ? override->storage : usual_storage(options, spec, entry);
    if (wanted) planned.storage = fit_storage(*wanted, entry.shape[1]);
  }
  return plan;
}

std::vector<std::vector<int32_t>> sensitivity_pieces(std::span<const std::vector<int32_t>> chunks) {
  std::vector<std::span<const int32_t>> all;
  for (const std::vector<int32_t>& chunk : chunks) {
    for (size_t begin = 0; begin < chunk.size(); begin += kPieceTokens) {
      all.push_back(std::span(chunk).subspan(begin, std::min(kPieceTokens, chunk.size() - begin)));
    }
  }
  std::vector<std::vector<int32_t>> pieces;
  const size_t n = std::min(kPieces, all.size());
  for (size_t i = 0; i < n; ++i) {
    const std::span<const int32_t> piece = all[(2 * i + 1) * all.size() / (2 * n)];
    pieces.emplace_back(piece.begin(), piece.end());
  }
  return pieces;
}

StoragePlan plan_mixed(const QuantizeOptions& options, const LoadedModel& model, std::span<const TensorEntry> matrices,
                       std::span<const TensorSensitivity> sensitivities,
                       const std::function<const InputMoments*(TensorRole, int)>& moments, ThreadPool& pool,
                       const std::function<void(double)>& on_progress) {
  StoragePlan plan;
  std::vector<MatrixCandidates> candidates;
  int64_t n_vector_values = parameter_count(model.spec);
  const DType vector_type = options.format == ModelFormat::kGguf ? DType::kF32 : kept_type(model.weights.embed_tokens);
  double budget = *options.target_bpw * static_cast<double>(n_vector_values);
  for (const TensorEntry& entry : matrices) {
    const StoredMatrix& matrix = matrix_of(model.weights, entry.role, entry.layer);
    n_vector_values -= entry.shape[0] * entry.shape[1];
    MatrixCandidates candidate{entry.role, entry.layer, {}};
    if (const StorageOverride* override = find_override(options, entry); override == nullptr) {
      candidate.options = all_storages(options, kept_type(matrix), entry.shape[1]);
    } else if (override->storage) {
      if (const auto storage = fit_storage(*override->storage, entry.shape[1])) candidate.options = {*storage};
      for (MatrixStorage& storage : candidate.options) storage.scale_dtype = kept_type(matrix);
    }
    if (candidate.options.empty()) {
      plan[{entry.role, entry.layer}] = {};
      budget -= static_cast<double>(entry.shape[0] * entry.shape[1]) * bits_of(kept_type(matrix));
    } else {
      candidates.push_back(std::move(candidate));
    }
  }
  budget -= static_cast<double>(n_vector_values) * bits_of(vector_type);

  const std::vector<MatrixLosses> losses =
      predict_losses(model.weights, sensitivities, options.method, moments, candidates, pool, on_progress);
  std::vector<std::vector<StorageCost>> costs;
  for (const MatrixLosses& loss : losses) costs.push_back(loss.costs);
  const std::vector<int> choices = allocate_bits(costs, budget);
  double excess = -budget;
  for (size_t i = 0; i < candidates.size(); ++i) {
    const auto choice = static_cast<size_t>(choices[i]);
    excess += costs[i][choice].bits;
    plan[{candidates[i].role, candidates[i].layer}] = {candidates[i].options[choice], costs[i][choice].loss,
                                                       losses[i].rounding_loss};
  }
  if (excess > 0.0) {
    fail(ErrorCode::kInvalidArgument, "[quant] target of {:.3f} bits per weight: the least possible is {:.3f}",
         *options.target_bpw, *options.target_bpw + excess / static_cast<double>(parameter_count(model.spec)));
  }
  return plan;
}

}  // namespace mobilellm
