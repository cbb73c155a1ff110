// One file in memory for all tensors, filled in parallel in pieces, and bound like the tensors of a file.
#include "model/random_weights.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <utility>

#include "base/error.h"
#include "base/mapped_file.h"
#include "model/binding.h"
#include "model/tensor_table.h"

namespace mobilellm {
namespace {

constexpr size_t kAlignment = 64;
constexpr int64_t kPieceBytes = int64_t{4} << 20;  // Filled by one task.

bool is_head(TensorRole role) { return role == TensorRole::kEmbedTokens || role == TensorRole::kLmHead; }
bool is_bias(TensorRole role) { return role >= TensorRole::kQBias; }

struct Piece {
  const RandomValues* values;  // Null: ones or zeros as f32.
  float constant;
  size_t data_at, data_bytes;
  size_t scales_at, biases_at, scale_bytes;
};

class RandomSource final : public WeightSource {
 public:
  RandomSource(const ModelDescription& description, const RandomWeightsOptions& options, ThreadPool& pool)
      : options_(options) {
    for (const TensorEntry& entry : tensor_table(description)) {
      if (entry.is_matrix()) {
        add_matrix(entry);
      } else {
        add_vector(entry, description);
      }
    }
    // In a file, so that a backend may release what it has repacked, as it does with real models.
    file_ = MappedFile::create_in_memory(n_bytes_, [&](std::span<std::byte> all) {
      pool.run(static_cast<int64_t>(pieces_.size()), [&](int64_t i, int) { fill(static_cast<size_t>(i), all); });
    });
    file_->release(file_->bytes());
    for (size_t i = 0; i < tensors_.size(); ++i) {
      tensors_[i].data = file_->bytes().subspan(offsets_[i], tensors_[i].data.size());
      tensors_[i].file = file_.get();
    }
    build_index();
  }

  const std::vector<TensorView>& tensors() const override { return tensors_; }
  std::string path() const override { return "random weights"; }
  void check_unchanged() const override {}

 private:
  size_t add_tensor(std::string name, DType dtype, std::vector<int64_t> shape, size_t n_bytes) {
    const size_t at = n_bytes_;
    n_bytes_ = checked_add(at, (n_bytes + kAlignment - 1) / kAlignment * kAlignment, "random weights");
    TensorView view;
    view.name = std::move(name);
    view.dtype = dtype;
    view.shape = std::move(shape);
    view.data = std::span(static_cast<const std::byte*>(nullptr), n_bytes);  // Its place is known later.
    tensors_.push_back(std::move(view));
    offsets_.push_back(at);
    return at;
  }

  void add_matrix(const TensorEntry& entry) {
    const StorageFormat& format = is_head(entry.role) ? options_.head_format : options_.format;
    const int64_t rows = entry.shape[0];
    const int64_t cols = entry.shape[1];
    if (cols % format.block_values() != 0) {
      fail(ErrorCode::kInvalidArgument, "[model] {}: rows of {} values do not divide into blocks of {} ({})",
           entry.names.front(), cols, format.block_values(), format.name);
    }
    const std::string& name = entry.names.front();
    const std::string module = name.substr(0, name.size() - std::strlen(".weight"));
    const std::vector<int64_t> data_shape = {rows, format.groups ? cols * format.groups->bits / 32 : cols};
    const size_t data_at = add_tensor(name, format.dtype, data_shape, format.data_bytes(rows, cols));
    const size_t scale_bytes = format.scale_bytes(rows, cols);
    size_t scales_at = 0;
    size_t biases_at = 0;
    const bool is_affine = format.groups && format.groups->mode == QuantMode::kAffine;
    if (format.groups) {
      const std::vector<int64_t> shape = {rows, cols / format.groups->group_size};
      scales_at = add_tensor(module + ".scales", is_affine ? DType::kBF16 : DType::kU8, shape, scale_bytes);
      if (is_affine) biases_at = add_tensor(module + ".biases", DType::kBF16, shape, scale_bytes);
    }

    const RandomValues& values = values_for(format, cols);
    const int64_t row_bytes = static_cast<int64_t>(format.data_bytes(1, cols));
    const int64_t step = std::max<int64_t>(1, kPieceBytes / row_bytes);
    for (int64_t row = 0; row < rows; row += step) {
      const int64_t n = std::min(step, rows - row);
      const size_t scale_row = format.scale_bytes(1, cols) * static_cast<size_t>(row);
      pieces_.push_back({&values, 0, data_at + static_cast<size_t>(row * row_bytes), static_cast<size_t>(n * row_bytes),
                         scales_at + scale_row, is_affine ? biases_at + scale_row : 0, format.scale_bytes(n, cols)});
    }
  }

  // Norms multiply by one, whatever is added to them later; biases are zero.
  void add_vector(const TensorEntry& entry, const ModelDescription& description) {
    const auto n_bytes = static_cast<size_t>(entry.shape[0]) * sizeof(float);
    const bool is_zero = is_bias(entry.role) || description.norm_transform == NormTransform::kAddOne;
    const size_t at = add_tensor(entry.names.front(), DType::kF32, entry.shape, n_bytes);
    pieces_.push_back({nullptr, is_zero ? 0.0F : 1.0F, at, n_bytes, 0, 0, 0});
  }

  const RandomValues& values_for(const StorageFormat& format, int64_t cols) {
    const auto [found, is_new] = values_.try_emplace({format.name, cols});
    if (is_new) {
      const float deviation = 1.0F / std::sqrt(static_cast<float>(cols));
      found->second = std::make_unique<RandomValues>(format, deviation, options_.seed);
    }
    return *found->second;
  }

  void fill(size_t index, std::span<std::byte> all) const {
    const Piece& piece = pieces_[index];
    const std::span<std::byte> data = all.subspan(piece.data_at, piece.data_bytes);
    if (piece.values == nullptr) {
      for (size_t i = 0; i < data.size(); i += sizeof(float)) {
        std::memcpy(data.data() + i, &piece.constant, sizeof(float));
      }
      return;
    }
    piece.values->fill_data(data, index);
    if (piece.scale_bytes == 0) return;
    const bool has_biases = piece.biases_at != 0;
    piece.values->fill_scales(all.subspan(piece.scales_at, piece.scale_bytes),
                              all.subspan(piece.biases_at, has_biases ? piece.scale_bytes : 0), index);
  }

  RandomWeightsOptions options_;
  std::map<std::pair<std::string, int64_t>, std::unique_ptr<RandomValues>> values_;  // By format and columns.
  std::vector<TensorView> tensors_;
  std::vector<size_t> offsets_;
  std::vector<Piece> pieces_;
  size_t n_bytes_ = 0;
  std::shared_ptr<const MappedFile> file_;
};

// Settings of every module that has scales.
std::optional<QuantizationConfig> quantization_of(const ModelDescription& description,
                                                  const RandomWeightsOptions& options) {
  if (!options.format.groups && !options.head_format.groups) return std::nullopt;
  QuantizationConfig config;
  config.defaults = options.format.groups.value_or(QuantizationParams{});
  for (const TensorEntry& entry : tensor_table(description)) {
    if (!is_head(entry.role)) continue;
    const std::string& name = entry.names.front();
    config.overrides[name.substr(0, name.size() - std::strlen(".weight"))] = options.head_format.groups;
  }
  return config;
}

}  // namespace

ModelWeights make_random_weights(const ModelDescription& description, const RandomWeightsOptions& options,
                                 ThreadPool& pool) {
  auto source = std::make_shared<RandomSource>(description, options, pool);
  return bind_weights(description, std::move(source), quantization_of(description, options));
}

}  // namespace mobilellm
