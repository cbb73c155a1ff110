// Pools of random blocks: random bits first, then scales that give them the wanted mean and spread.
#include "codec/random_values.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>

#include "base/error.h"
#include "base/random.h"
#include "codec/codec.h"
#include "tensor/float_convert.h"

namespace mobilellm {
namespace {

constexpr size_t kPoolValues = size_t{1} << 17;
constexpr size_t kPoolScales = size_t{1} << 12;
constexpr size_t kRunBytes = 4096;  // Copied from one place of the pool.

// Where a block type keeps its scale and its minimum, both fp16 except for MXFP4's E8M0 byte.
struct ScaleFields {
  DType dtype;
  int scale_at;
  int min_at;  // -1: none
};
constexpr ScaleFields kScaleFields[] = {
    {DType::kQ4_0, 0, -1},  {DType::kQ4_1, 0, 2},    {DType::kQ5_0, 0, -1},   {DType::kQ5_1, 0, 2},
    {DType::kQ8_0, 0, -1},  {DType::kQ2_K, 80, 82},  {DType::kQ3_K, 108, -1}, {DType::kQ4_K, 0, 2},
    {DType::kQ5_K, 0, 2},   {DType::kQ6_K, 208, -1}, {DType::kIQ4_NL, 0, -1}, {DType::kIQ4_XS, 0, -1},
    {DType::kMXFP4, 0, -1},
};
constexpr DType kScalarTypes[] = {DType::kF32, DType::kF16, DType::kBF16, DType::kF8E4M3, DType::kF8E5M2};

const ScaleFields* find_fields(DType dtype) {
  const auto* found = std::find_if(std::begin(kScaleFields), std::end(kScaleFields),
                                   [dtype](const ScaleFields& fields) { return fields.dtype == dtype; });
  return found == std::end(kScaleFields) ? nullptr : found;
}

std::string format_names() {
  std::string names;
  for (const DType dtype : kScalarTypes) names += std::string(find_codec(dtype)->name()) + ", ";
  for (const ScaleFields& fields : kScaleFields) names += std::string(find_codec(fields.dtype)->name()) + ", ";
  return names + "affineBgG (B bits in groups of G), mxfp4, nvfp4, mxfp8";
}

void store_half(std::byte* at, float value) {
  const uint16_t bits = float_to_fp16(value);
  std::memcpy(at, &bits, sizeof(bits));
}

struct Moments {
  double mean = 0;
  double deviation = 0;
};

Moments moments(const std::vector<float>& values) {
  double sum = 0;
  double squares = 0;
  for (const float value : values) {
    sum += value;
    squares += double{value} * value;
  }
  const auto n = static_cast<double>(values.size());
  return {sum / n, std::sqrt(std::max(0.0, squares / n - sum / n * (sum / n)))};
}

std::vector<float> decode(const std::vector<std::byte>& blocks, DType dtype) {
  TensorView view;
  view.name = "random";
  view.dtype = dtype;
  const DTypeInfo& info = dtype_info(dtype);
  view.shape = {static_cast<int64_t>(blocks.size() / info.block_bytes) * info.block_values};
  view.data = blocks;
  return decode_tensor(view);
}

// 0.75 to 1.25, so that scales differ as those of real weights do.
float jitter(uint64_t bits) { return 0.75F + 0.5F * static_cast<float>(bits >> 40) * 0x1p-24F; }

uint8_t nearest_e8m0(double scale) {
  return static_cast<uint8_t>(std::clamp(127 + static_cast<int>(std::lround(std::log2(scale))), 1, 254));
}

}  // namespace

int64_t StorageFormat::block_values() const { return groups ? groups->group_size : dtype_info(dtype).block_values; }

size_t StorageFormat::data_bytes(int64_t rows, int64_t cols) const {
  const size_t row = groups ? row_bytes(DType::kU32, cols * groups->bits / 32) : row_bytes(dtype, cols);
  return checked_mul(static_cast<size_t>(rows), row, "random weights");
}

size_t StorageFormat::scale_bytes(int64_t rows, int64_t cols) const {
  if (!groups) return 0;
  const size_t scale = groups->mode == QuantMode::kAffine ? 2 : 1;
  return checked_mul(static_cast<size_t>(rows), static_cast<size_t>(cols / groups->group_size) * scale,
                     "random scales");
}

StorageFormat parse_storage_format(std::string_view name) {
  StorageFormat format;
  format.name = name == "q4" ? "q4_0" : name == "q8" ? "q8_0" : std::string(name);
  const std::string_view wanted = format.name;
  for (const DType dtype : kScalarTypes) {
    if (wanted != find_codec(dtype)->name()) continue;
    format.dtype = dtype;
    return format;
  }
  for (const ScaleFields& fields : kScaleFields) {
    if (wanted != find_codec(fields.dtype)->name()) continue;
    format.dtype = fields.dtype;
    return format;
  }
  format.dtype = DType::kU32;
  QuantizationParams params;
  if (wanted.starts_with("affine")) {
    const std::string_view digits = wanted.substr(6);
    const size_t separator = std::min(digits.find('g'), digits.size());
    const auto read = [](std::string_view text, int& value) {
      const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
      return error == std::errc() && end == text.data() + text.size();
    };
    if (read(digits.substr(0, separator), params.bits) &&
        (separator == digits.size() || read(digits.substr(separator + 1), params.group_size))) {
      check_quantization_params(params);
      format.name = fmt::format("affine{}g{}", params.bits, params.group_size);
      format.groups = params;
      return format;
    }
  } else if (const std::optional<QuantMode> mode = find_quant_mode(wanted)) {
    params = {*mode, *mode == QuantMode::kMxfp8 ? 8 : 4, *mode == QuantMode::kNvfp4 ? 16 : 32};
    format.groups = params;
    return format;
  }
  fail(ErrorCode::kInvalidArgument, "[codec] unknown weight format '{}'; there are {}", name, format_names());
}

RandomValues::RandomValues(const StorageFormat& format, float deviation, uint64_t seed) : seed_(seed) {
  if (format.groups) {
    make_groups(*format.groups, deviation);
  } else if (find_fields(format.dtype) != nullptr) {
    make_blocks(format.dtype, deviation);
  } else {
    make_scalars(format.dtype, deviation);
  }
}

void RandomValues::make_scalars(DType dtype, float deviation) {
  data_unit_ = dtype_info(dtype).block_bytes;
  data_.resize(kPoolValues * data_unit_);
  for (size_t i = 0; i < kPoolValues; ++i) {
    // A sum of uniform numbers is close enough to a normal one: mean 0, variance 4 / 12 of their width.
    const uint64_t bits = random_bits(seed_, 0, i);
    float sum = -2.0F;
    for (int part = 0; part < 4; ++part) sum += static_cast<float>((bits >> (16 * part)) & 0xFFFFU) * 0x1p-16F;
    const float value = sum * deviation * std::sqrt(3.0F);
    std::byte* at = data_.data() + i * data_unit_;
    const uint16_t half = dtype == DType::kBF16 ? float_to_bf16(value) : float_to_fp16(value);
    const auto eighth = static_cast<uint8_t>(dtype == DType::kF8E5M2 ? half >> 8 : float_to_f8_e4m3(value));
    if (dtype == DType::kF32) std::memcpy(at, &value, sizeof(value));
    if (dtype == DType::kF16 || dtype == DType::kBF16) std::memcpy(at, &half, sizeof(half));
    if (data_unit_ == 1) std::memcpy(at, &eighth, 1);
  }
}

void RandomValues::make_blocks(DType dtype, float deviation) {
  const ScaleFields& fields = *find_fields(dtype);
  const DTypeInfo& info = dtype_info(dtype);
  data_unit_ = info.block_bytes;
  const size_t n_blocks = kPoolValues / static_cast<size_t>(info.block_values);
  data_.resize(n_blocks * data_unit_);
  for (size_t i = 0; i < data_.size(); ++i) data_[i] = static_cast<std::byte>(random_bits(seed_, 0, i) & 0xFFU);

  const auto set_scales = [&](double scale, double minimum, bool is_jittered) {
    for (size_t i = 0; i < n_blocks; ++i) {
      std::byte* block = data_.data() + i * data_unit_;
      const double factor = is_jittered ? jitter(random_bits(seed_, 1, i)) : 1.0;
      if (dtype == DType::kMXFP4) {
        block[fields.scale_at] = static_cast<std::byte>(nearest_e8m0(scale));
      } else {
        store_half(block + fields.scale_at, static_cast<float>(scale * factor));
      }
      if (fields.min_at >= 0) store_half(block + fields.min_at, static_cast<float>(minimum * factor));
    }
  };
  // A value is scale * a + min * b, where a and b come from the random bits: take the means out, then set the spread.
  double ratio = 0;
  if (fields.min_at >= 0) {
    set_scales(0, 1, false);
    const double b = moments(decode(data_, dtype)).mean;
    set_scales(1, 0, false);
    ratio = -moments(decode(data_, dtype)).mean / b;
  }
  set_scales(1, ratio, false);
  const double scale = deviation / moments(decode(data_, dtype)).deviation;
  set_scales(scale, scale * ratio, true);
}

void RandomValues::make_groups(const QuantizationParams& params, float deviation) {
  data_unit_ = 4;
  data_.resize(kPoolValues);
  for (size_t i = 0; i < data_.size(); ++i) {
    auto bits = static_cast<uint8_t>(random_bits(seed_, 0, i) & 0xFFU);
    if (params.mode == QuantMode::kMxfp8) bits &= 0xBFU;  // Magnitudes below 2, which leaves out NaN.
    data_[i] = static_cast<std::byte>(bits);
  }
  const bool is_affine = params.mode == QuantMode::kAffine;
  scale_unit_ = is_affine ? 2 : 1;
  scales_.resize(kPoolScales * scale_unit_);
  if (is_affine) biases_.resize(scales_.size());
  // Spread of the codes: uniform integers, E2M1 numbers, E4M3 numbers below 2.
  const double top = (1 << params.bits) - 1;
  const double spread = is_affine ? top / std::sqrt(12.0) : params.mode == QuantMode::kMxfp8 ? 0.61 : 2.9;
  for (size_t i = 0; i < kPoolScales; ++i) {
    const float scale = static_cast<float>(deviation / spread) * jitter(random_bits(seed_, 1, i));
    if (is_affine) {
      const uint16_t scale_bits = float_to_bf16(scale);
      const uint16_t bias_bits = float_to_bf16(static_cast<float>(-bf16_to_float(scale_bits) * top / 2));
      std::memcpy(scales_.data() + 2 * i, &scale_bits, 2);
      std::memcpy(biases_.data() + 2 * i, &bias_bits, 2);
    } else {
      scales_[i] =
          static_cast<std::byte>(params.mode == QuantMode::kNvfp4 ? float_to_f8_e4m3(scale) : nearest_e8m0(scale));
    }
  }
}

void RandomValues::copy_runs(std::span<std::byte> out, const std::vector<std::byte>& pool, size_t unit,
                             uint64_t stream) const {
  const size_t run = std::min(std::max<size_t>(kRunBytes / unit, 1) * unit, pool.size() / 2 / unit * unit);
  const size_t n_starts = (pool.size() - run) / unit + 1;
  for (size_t done = 0, i = 0; done < out.size(); done += run, ++i) {
    const size_t start = random_bits(seed_, stream + 2, i) % n_starts * unit;
    std::memcpy(out.data() + done, pool.data() + start, std::min(run, out.size() - done));
  }
}

void RandomValues::fill_data(std::span<std::byte> out, uint64_t stream) const {
  copy_runs(out, data_, data_unit_, stream);
}

void RandomValues::fill_scales(std::span<std::byte> scales, std::span<std::byte> biases, uint64_t stream) const {
  copy_runs(scales, scales_, scale_unit_, stream);
  if (!biases.empty()) copy_runs(biases, biases_, scale_unit_, stream);  // The same runs, so pairs stay together.
}

}  // namespace mobilellm
