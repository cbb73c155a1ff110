// Normal numbers, encoded by the format's own codec, as a pool to copy from.
#include "codec/random_values.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>

#include "base/error.h"
#include "base/random.h"
#include "codec/encode.h"

namespace mobilellm {
namespace {

// Rows of a length that every block and group divides.
constexpr int64_t kPoolRows = 64;
constexpr int64_t kPoolCols = 1024;
constexpr size_t kRunBytes = 4096;  // Copied from one place of the pool.

// Types that hold weights by themselves; f64 is left out, since no model is stored so.
std::vector<DType> plain_types() {
  std::vector<DType> types;
  for (size_t i = 0; i < kDTypeCount; ++i) {
    const auto dtype = static_cast<DType>(i);
    if (dtype != DType::kF64 && find_codec(dtype) != nullptr) types.push_back(dtype);
  }
  return types;
}

std::string format_names() {
  std::string names;
  for (const DType dtype : plain_types()) names += std::string(find_codec(dtype)->name()) + ", ";
  return names + "affineBgG (B bits in groups of G), mxfp4, nvfp4, mxfp8";
}

bool read_number(std::string_view text, int& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size();
}

// "4g64" or "4".
std::optional<QuantizationParams> parse_affine(std::string_view digits) {
  QuantizationParams params;
  const size_t separator = std::min(digits.find('g'), digits.size());
  if (!read_number(digits.substr(0, separator), params.bits)) return std::nullopt;
  if (separator < digits.size() && !read_number(digits.substr(separator + 1), params.group_size)) return std::nullopt;
  check_quantization_params(params);
  return params;
}

// Close enough to a normal distribution of mean 0 and deviation 1: a sum of four uniform numbers.
float normal(uint64_t bits) {
  float sum = -2.0F;
  for (int part = 0; part < 4; ++part) sum += static_cast<float>((bits >> (16 * part)) & 0xFFFFU) * 0x1p-16F;
  return sum * std::sqrt(3.0F);
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
  for (const DType dtype : plain_types()) {
    if (format.name != find_codec(dtype)->name()) continue;
    format.dtype = dtype;
    return format;
  }
  format.dtype = DType::kU32;
  constexpr std::string_view kAffine = "affine";
  if (format.name.starts_with(kAffine)) {
    format.groups = parse_affine(std::string_view(format.name).substr(kAffine.size()));
    if (format.groups) format.name = fmt::format("affine{}g{}", format.groups->bits, format.groups->group_size);
  } else if (const std::optional<QuantMode> mode = find_quant_mode(format.name)) {
    format.groups = {*mode, *mode == QuantMode::kMxfp8 ? 8 : 4, *mode == QuantMode::kNvfp4 ? 16 : 32};
  }
  if (format.groups) return format;
  fail(ErrorCode::kInvalidArgument, "[codec] unknown weight format '{}'; there are {}", name, format_names());
}

RandomValues::RandomValues(const StorageFormat& format, float deviation, uint64_t seed) : seed_(seed) {
  std::vector<float> values(static_cast<size_t>(kPoolRows * kPoolCols));
  for (size_t i = 0; i < values.size(); ++i) values[i] = deviation * normal(random_bits(seed, 0, i));
  EncodedMatrix pool = format.groups ? EncodedMatrix(*format.groups, DType::kBF16, kPoolRows, kPoolCols, "random")
                                     : EncodedMatrix(format.dtype, kPoolRows, kPoolCols, "random");
  encode_rows(pool, 0, kPoolRows, values.data());
  data_.assign(pool.data().begin(), pool.data().end());
  scales_.assign(pool.scales().begin(), pool.scales().end());
  biases_.assign(pool.biases().begin(), pool.biases().end());
  data_unit_ = format.data_bytes(1, format.block_values());
  scale_unit_ = std::max<size_t>(1, format.scale_bytes(1, format.block_values()));
}

void RandomValues::copy_runs(std::span<std::byte> out, const std::vector<std::byte>& pool, size_t unit,
                             uint64_t stream) const {
  const size_t run = std::clamp<size_t>(std::min(kRunBytes, pool.size() / 2) / unit, 1, pool.size() / unit) * unit;
  const size_t n_starts = (pool.size() - run) / unit + 1;
  for (size_t done = 0, i = 0; done < out.size(); done += run, ++i) {
    const size_t start = random_bits(seed_, stream + 1, i) % n_starts * unit;
    std::memcpy(out.data() + done, pool.data() + start, std::min(run, out.size() - done));
  }
}

void RandomValues::fill_data(std::span<std::byte> out, uint64_t stream) const {
  copy_runs(out, data_, data_unit_, stream);
}

// Codes and scales come from different places of their pools, which only groups of equal spread allow.
void RandomValues::fill_scales(std::span<std::byte> scales, std::span<std::byte> biases, uint64_t stream) const {
  copy_runs(scales, scales_, scale_unit_, stream);
  if (!biases.empty()) copy_runs(biases, biases_, scale_unit_, stream);  // The same runs, so pairs stay together.
}

}  // namespace mobilellm
