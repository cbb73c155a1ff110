// Choosing types for the target's tensors, and the functions that make their bytes.
#include "convert/weight_plan.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "base/error.h"
#include "codec/repack.h"
#include "convert/float_rows.h"
#include "convert/matrix_quantizer.h"
#include "convert/row_order.h"

namespace mobilellm {
namespace {

constexpr size_t kChunkValues = size_t{1} << 20;

StoredMatrix stored_matrix(const TensorMatch& match) {
  if (!match.quantization) return make_matrix(*match.weight);
  return make_quantized_matrix(*match.weight, *match.scales, match.biases, *match.quantization);
}

std::string storage_text(const StoredMatrix& matrix) {
  if (matrix.bits == 0) return dtype_name(matrix.dtype);
  return fmt::format("{} {} bits, group {}", matrix.codec->name(), matrix.bits, matrix.group_size);
}

/// What one matrix becomes.
enum class Treatment { kFloat, kCopy, kBlocks, kPacked };

/// A matrix on its way: rows in the target's order, in pieces of limited size.
struct MatrixJob {
  StoredMatrix matrix;
  TensorMatch match;
  RowOrder order;

  int64_t chunk_rows() const {
    return std::max<int64_t>(1, static_cast<int64_t>(kChunkValues) / std::max<int64_t>(1, matrix.cols));
  }
  /// Calls visit(begin, end) for ranges of target rows.
  template <typename Visit>
  void for_each_chunk(Visit&& visit) const {
    for (int64_t begin = 0; begin < matrix.rows; begin += chunk_rows()) {
      visit(begin, std::min(matrix.rows, begin + chunk_rows()));
    }
  }
  /// Calls visit(begin, end) for ranges of source rows that are neighbours in the target.
  template <typename Visit>
  void for_each_run(int64_t begin, int64_t end, Visit&& visit) const {
    if (order.is_identity()) return visit(begin, end);
    for (int64_t row = begin; row < end; ++row) visit(order.source_row(row), order.source_row(row) + 1);
  }
  void decode(int64_t begin, int64_t end, std::vector<float>& out) const {
    out.resize(static_cast<size_t>((end - begin) * matrix.cols));
    decode(begin, end, out.data());
  }
  void decode(int64_t begin, int64_t end, float* target) const {
    for_each_run(begin, end, [&](int64_t first, int64_t last) {
      matrix.codec->decode_rows(matrix, first, last, target);
      target += (last - first) * matrix.cols;
    });
  }
};

/// Rows of any tensor, as they lie in the file.
void write_raw_rows(const MatrixJob& job, const TensorView& tensor, const ByteSink& sink) {
  if (job.matrix.rows == 0) return;
  const size_t row_bytes = tensor.data.size() / static_cast<size_t>(job.matrix.rows);
  job.for_each_chunk([&](int64_t begin, int64_t end) {
    job.for_each_run(begin, end, [&](int64_t first, int64_t last) {
      const auto rows =
          tensor.data.subspan(static_cast<size_t>(first) * row_bytes, static_cast<size_t>(last - first) * row_bytes);
      if (is_float_dtype(tensor.dtype)) check_finite(rows, tensor.dtype, tensor.name);
      sink(rows);
    });
  });
}

void write_floats(const MatrixJob& job, DType dtype, const ByteSink& sink) {
  std::vector<float> values;
  std::vector<std::byte> bytes;
  job.for_each_chunk([&](int64_t begin, int64_t end) {
    job.decode(begin, end, values);
    bytes.clear();
    append_floats(values, dtype, job.matrix.name, bytes);
    sink(bytes);
  });
}

// Scales inside blocks, or 8-bit floats: only decoding shows a NaN.
void check_hidden_scales(const MatrixJob& job) {
  std::vector<float> values;
  job.for_each_chunk([&](int64_t begin, int64_t end) {
    job.decode(begin, end, values);
    check_finite(std::as_bytes(std::span(values)), DType::kF32, job.matrix.name);
  });
}

/// Sums of a comparison of values before and after.
struct ErrorSums {
  double squares = 0;
  double squared_errors = 0;
  double max_error = 0;

  void add(std::span<const float> before, std::span<const float> after) {
    for (size_t i = 0; i < before.size(); ++i) {
      const double error = static_cast<double>(after[i]) - static_cast<double>(before[i]);
      squares += static_cast<double>(before[i]) * static_cast<double>(before[i]);
      squared_errors += error * error;
      max_error = std::max(max_error, std::abs(error));
    }
  }
};

class Planner {
 public:
  explicit Planner(const WeightPlanInput& input) : in_(input) {
    plan_.changed = std::make_shared<std::vector<ChangedTensor>>();
  }

  WeightPlan plan() {
    const std::vector<TensorEntry> target_table = tensor_table(in_.target);
    MOBILELLM_CHECK(target_table.size() == in_.binding.table.size());
    for (size_t i = 0; i < target_table.size(); ++i) {
      const TensorEntry& source = in_.binding.table[i];
      const TensorEntry& target = target_table[i];
      MOBILELLM_CHECK(source.role == target.role && source.layer == target.layer && source.shape == target.shape);
      if (source.is_matrix()) {
        plan_matrix(source, target, in_.binding.matches[i]);
      } else {
        plan_vector(source, target, *in_.binding.matches[i].weight);
      }
    }
    write_quantization();
    return std::move(plan_);
  }

 private:
  bool to_gguf() const { return in_.options.format == ModelFormat::kGguf; }

  RowOrder row_order(const TensorEntry& entry) const {
    if (entry.layer < 0) return {entry.role, nullptr, nullptr};
    const auto layer = static_cast<size_t>(entry.layer);
    return {entry.role, &in_.source.spec.layers[layer], &in_.target.spec.layers[layer]};
  }

  void add(const std::string& name, DType dtype, std::vector<int64_t> shape,
           std::function<void(const ByteSink&)> write) {
    PlannedTensor tensor;
    tensor.name = name;
    tensor.dtype = dtype;
    tensor.shape = std::move(shape);
    const auto& on_bytes = in_.on_bytes;
    tensor.write = [write = std::move(write), on_bytes](const ByteSink& sink) {
      write([&](std::span<const std::byte> bytes) {
        on_bytes(bytes.size());
        sink(bytes);
      });
    };
    plan_.tensors.push_back(std::move(tensor));
  }

  // ----- vectors -----

  std::vector<float> read_vector(const TensorEntry& source, const TensorEntry& target, const TensorView& tensor) {
    std::vector<float> stored = decode_tensor(tensor);
    check_finite(std::as_bytes(std::span(stored)), DType::kF32, tensor.name);
    const RowOrder order = row_order(source);
    std::vector<float> values(stored.size());
    for (size_t i = 0; i < values.size(); ++i) {
      values[i] = stored[static_cast<size_t>(order.source_row(static_cast<int64_t>(i)))];
    }
    if (source.transform == target.transform) return values;
    if (target.transform == NormTransform::kNone) {
      fold_one(values, target.names.front());
    } else {
      unfold_one(values, tensor.name);
    }
    return values;
  }

  // w to 1 + w, remembering w when it cannot be found again.
  void fold_one(std::vector<float>& values, const std::string& name) {
    const std::vector<float> original = values;
    bool is_exact = true;
    for (float& value : values) {
      const float folded = 1.0F + value;
      is_exact = is_exact && folded - 1.0F == value && (value != 0 || !std::signbit(value));
      value = folded;
    }
    if (!is_exact) plan_.rounded_norms.emplace_back(name, original);
  }

  void unfold_one(std::vector<float>& values, const std::string& name) {
    const std::vector<float> original = in_.original_norm ? in_.original_norm(name) : std::vector<float>();
    bool is_original = original.size() == values.size();
    for (size_t i = 0; is_original && i < values.size(); ++i) is_original = 1.0F + original[i] == values[i];
    if (is_original) {
      values = original;
      return;
    }
    for (float& value : values) value -= 1.0F;
  }

  void plan_vector(const TensorEntry& source, const TensorEntry& target, const TensorView& tensor) {
    std::vector<float> values = read_vector(source, target, tensor);
    DType dtype = is_float_dtype(tensor.dtype) ? tensor.dtype : DType::kF32;
    if (to_gguf()) {
      dtype = DType::kF32;
    } else if (in_.options.dtype) {
      dtype = *in_.options.dtype;
    } else if (in_.source.names == NameScheme::kGguf && in_.declared_dtype &&
               fits_exactly(values, *in_.declared_dtype)) {
      dtype = *in_.declared_dtype;
    }
    add(target.names.front(), dtype, target.shape,
        [values = std::move(values), dtype, name = tensor.name](const ByteSink& sink) {
          std::vector<std::byte> bytes;
          append_floats(values, dtype, name, bytes);
          sink(bytes);
        });
  }

  // ----- matrices -----

  Treatment choose(const StoredMatrix& matrix, const std::string& name) {
    const bool is_packed = matrix.bits != 0;
    const bool is_block = is_block_dtype(matrix.dtype);
    if ((!is_packed && !is_block) || in_.options.dequantize) return Treatment::kFloat;
    switch (in_.options.format) {
      case ModelFormat::kGguf:
        return is_block ? Treatment::kCopy : Treatment::kBlocks;
      case ModelFormat::kMlx:
        if (is_packed) return Treatment::kCopy;
        if (exact_packing(matrix.dtype)) return Treatment::kPacked;
        plan_.notes.push_back(
            fmt::format("{} is {}, which mlx-lm has not; it becomes float", name, dtype_name(matrix.dtype)));
        return Treatment::kFloat;
      case ModelFormat::kHuggingFace:
        break;
    }
    fail(ErrorCode::kInvalidArgument,
         "[convert] tensor '{}' is quantized ({}), which a Hugging Face folder cannot hold; add --dequantize, or "
         "convert to mlx or gguf",
         printable_name(name), storage_text(matrix));
  }

  DType float_type(const StoredMatrix& matrix) const {
    if (in_.options.dtype) return *in_.options.dtype;
    if (is_float_dtype(matrix.dtype)) return matrix.dtype;
    if (matrix.bits != 0 && is_float_dtype(matrix.scale_dtype)) return matrix.scale_dtype;
    if (in_.declared_dtype) return *in_.declared_dtype;
    if (matrix.dtype == DType::kF64) return DType::kF32;
    // Every block and 8-bit float value is nearly or wholly exact in 16 bits; GGUF scales are fp16.
    return is_block_dtype(matrix.dtype) ? DType::kF16 : DType::kBF16;
  }

  void plan_matrix(const TensorEntry& source, const TensorEntry& target, const TensorMatch& match) {
    const MatrixJob job{stored_matrix(match), match, row_order(source)};
    const std::string& name = target.names.front();
    if (source.role == TensorRole::kEmbedTokens) plan_.main_dtype = float_type(job.matrix);
    if (in_.options.quantizer != nullptr) {
      const std::optional<MatrixStorage> storage =
          in_.options.quantizer->choose_storage(target, float_type(job.matrix));
      if (storage) return plan_encoded(job, target, *storage);
    }
    const Treatment treatment = choose(job.matrix, match.weight->name);
    switch (treatment) {
      case Treatment::kFloat:
        return plan_float(job, name, target.shape);
      case Treatment::kCopy:
        return plan_copy(job, name);
      case Treatment::kBlocks:
        return plan_blocks(job, name, target.shape);
      case Treatment::kPacked:
        return plan_packed(job, name, target.shape);
    }
  }

  std::function<void(const ByteSink&)> released(const MatrixJob& job,
                                                std::function<void(const ByteSink&)> write) const {
    return [&weights = in_.weights, tensor = job.match.weight, write = std::move(write)](const ByteSink& sink) {
      write(sink);
      weights.release(*tensor);
    };
  }

  void plan_float(const MatrixJob& job, const std::string& name, const std::vector<int64_t>& shape) {
    const DType dtype = float_type(job.matrix);
    const bool is_copy = job.matrix.bits == 0 && job.matrix.dtype == dtype;
    add(name, dtype, shape, released(job, [job, dtype, is_copy](const ByteSink& sink) {
          if (is_copy) return write_raw_rows(job, *job.match.weight, sink);
          write_floats(job, dtype, sink);
        }));
  }

  static std::string module_path(const std::string& weight_name) {
    constexpr std::string_view kSuffix = ".weight";
    return weight_name.substr(0, weight_name.size() - kSuffix.size());
  }

  void plan_copy(const MatrixJob& job, const std::string& name) {
    if (job.match.quantization) packings_.emplace_back(module_path(name), *job.match.quantization);
    const std::pair<const TensorView*, const char*> parts[] = {
        {job.match.weight, ".weight"}, {job.match.scales, ".scales"}, {job.match.biases, ".biases"}};
    for (const auto& part : parts) {
      const TensorView* tensor = part.first;
      if (tensor == nullptr) continue;
      const bool hides_scales = is_block_dtype(tensor->dtype) || tensor->dtype == DType::kU8;
      add(module_path(name) + part.second, tensor->dtype, tensor->shape,
          released(job, [job, tensor, hides_scales](const ByteSink& sink) {
            if (hides_scales) check_hidden_scales(job);
            write_raw_rows(job, *tensor, sink);
          }));
    }
  }

  void plan_blocks(const MatrixJob& job, const std::string& name, const std::vector<int64_t>& shape) {
    const DType dtype = nearest_block_type(job.matrix);
    if (job.matrix.cols % dtype_info(dtype).block_values != 0) {
      plan_.notes.push_back(fmt::format("{} has rows of {} values, no multiple of {}; it becomes float", name,
                                        job.matrix.cols, dtype_info(dtype).block_values));
      return plan_float(job, name, shape);
    }
    add(name, dtype, shape, released(job, [job, dtype, changed = plan_.changed](const ByteSink& sink) {
          std::vector<std::byte> blocks;
          std::vector<float> before;
          std::vector<float> after;
          ErrorSums errors;
          job.for_each_chunk([&](int64_t begin, int64_t end) {
            blocks.clear();
            job.for_each_run(begin, end,
                             [&](int64_t first, int64_t last) { append_blocks(job.matrix, first, last, blocks); });
            job.decode(begin, end, before);
            check_finite(std::as_bytes(std::span(before)), DType::kF32, job.matrix.name);
            StoredMatrix written;
            written.codec = find_codec(dtype);
            written.rows = end - begin;
            written.cols = job.matrix.cols;
            written.dtype = dtype;
            written.data = blocks;
            after.resize(before.size());
            written.codec->decode_rows(written, 0, written.rows, after.data());
            errors.add(before, after);
            sink(blocks);
          });
          if (errors.max_error == 0) return;
          ChangedTensor entry;
          entry.name = job.match.weight->name;
          entry.from = storage_text(job.matrix);
          entry.to = dtype_name(dtype);
          entry.max_error = errors.max_error;
          entry.relative_error = errors.squares > 0 ? std::sqrt(errors.squared_errors / errors.squares) : 0;
          changed->push_back(std::move(entry));
        }));
  }

  void plan_packed(const MatrixJob& job, const std::string& name, const std::vector<int64_t>& shape) {
    const QuantizationParams params = exact_packing(job.matrix.dtype).value();
    const std::string path = module_path(name);
    packings_.emplace_back(path, params);
    const bool is_affine = params.mode == QuantMode::kAffine;
    const std::vector<int64_t> groups = {shape[0], shape[1] / params.group_size};
    const auto add_part = [&](const char* suffix, DType dtype, const std::vector<int64_t>& part_shape,
                              std::vector<std::byte> PackedRows::* part) {
      add(path + suffix, dtype, part_shape, released(job, [job, part](const ByteSink& sink) {
            if (part == &PackedRows::scales) check_hidden_scales(job);
            job.for_each_chunk([&](int64_t begin, int64_t end) {
              PackedRows rows;
              job.for_each_run(begin, end,
                               [&](int64_t first, int64_t last) { append_packed(job.matrix, first, last, rows); });
              sink(rows.*part);
            });
          }));
    };
    add_part(".weight", DType::kU32, {shape[0], shape[1] * params.bits / 32}, &PackedRows::weight);
    add_part(".scales", is_affine ? DType::kF16 : DType::kU8, groups, &PackedRows::scales);
    if (is_affine) add_part(".biases", DType::kF16, groups, &PackedRows::biases);
  }

  // One encoding gives all parts of packed groups, whose turns come apart: what is not written yet waits.
  void plan_encoded(const MatrixJob& job, const TensorEntry& target, const MatrixStorage& storage) {
    const auto parts = std::make_shared<std::unique_ptr<EncodedMatrix>>();
    const auto encoded = [job, target, storage, parts, scratch = scratch_,
                          quantizer = in_.options.quantizer]() -> EncodedMatrix& {
      if (*parts == nullptr) {
        *parts =
            std::make_unique<EncodedMatrix>(storage.allocate(job.matrix.rows, job.matrix.cols, target.names.front()));
        std::vector<float>& values = *scratch;
        job.for_each_chunk([&](int64_t begin, int64_t end) {
          values.resize(static_cast<size_t>((end - begin) * job.matrix.cols));
          constexpr int64_t kRows = 64;
          quantizer->share((end - begin + kRows - 1) / kRows, [&](int64_t task) {
            const int64_t first = begin + task * kRows;
            job.decode(first, std::min(first + kRows, end), values.data() + task * kRows * job.matrix.cols);
          });
          quantizer->encode(target, begin, end, values.data(), **parts);
        });
      }
      return **parts;
    };
    const std::string& name = target.names.front();
    if (storage.block_type != DType::kU32) {
      add(name, storage.block_type, target.shape, released(job, [encoded, parts](const ByteSink& sink) {
            sink(encoded().data());
            parts->reset();
          }));
      return;
    }
    packings_.emplace_back(module_path(name), storage.params);
    const std::vector<int64_t> groups = {target.shape[0], target.shape[1] / storage.params.group_size};
    add(name, DType::kU32, {target.shape[0], target.shape[1] * storage.params.bits / 32},
        released(job, [encoded](const ByteSink& sink) {
          EncodedMatrix& matrix = encoded();
          sink(matrix.data());
          matrix.release_data();
        }));
    const bool is_affine = storage.params.mode == QuantMode::kAffine;
    add(module_path(name) + ".scales", is_affine ? storage.scale_dtype : DType::kU8, groups,
        [encoded](const ByteSink& sink) { sink(encoded().scales()); });
    if (!is_affine) return;
    add(module_path(name) + ".biases", storage.scale_dtype, groups,
        [encoded](const ByteSink& sink) { sink(encoded().biases()); });
  }

  // ----- the section of config.json -----

  static Json params_json(const QuantizationParams& params) {
    return Json::object()
        .set("group_size", params.group_size)
        .set("bits", params.bits)
        .set("mode", quant_mode_name(params.mode));
  }

  void write_quantization() {
    if (packings_.empty()) return;
    // The most frequent setting is the default; the others are entries of their own.
    QuantizationParams usual = packings_.front().second;
    ptrdiff_t n_usual = 0;
    for (const auto& packing : packings_) {
      const auto n = std::count_if(packings_.begin(), packings_.end(),
                                   [&](const auto& other) { return other.second == packing.second; });
      if (n > n_usual) {
        usual = packing.second;
        n_usual = n;
      }
    }
    plan_.quantization = params_json(usual);
    for (const auto& [path, params] : packings_) {
      if (params != usual) plan_.quantization.set(path, params_json(params));
    }
  }

  const WeightPlanInput& in_;
  WeightPlan plan_;
  std::vector<std::pair<std::string, QuantizationParams>> packings_;
  // Rows on their way to the quantizer, one matrix after the other.
  std::shared_ptr<std::vector<float>> scratch_ = std::make_shared<std::vector<float>>();
};

}  // namespace

WeightPlan plan_weights(const WeightPlanInput& input) { return Planner(input).plan(); }

void check_finite_weights(const BindingReport& binding, const WeightSource& weights) {
  for (size_t i = 0; i < binding.table.size(); ++i) {
    const TensorMatch& match = binding.matches[i];
    if (match.weight == nullptr) continue;
    if (!match.quantization && is_float_dtype(match.weight->dtype)) {
      check_finite(match.weight->data, match.weight->dtype, match.weight->name);
    } else {
      check_hidden_scales({stored_matrix(match), match, {binding.table[i].role, nullptr, nullptr}});
    }
    weights.release(*match.weight);
  }
}

}  // namespace mobilellm
