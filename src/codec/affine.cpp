// MLX's affine groups: w = scale * q + bias, q of 2 to 8 bits.
//
// A row is a little-endian bit stream: value k occupies bits k * bits to k * bits + bits - 1, bit 0 being the lowest of
// byte 0. So 8 values lie in `bits` bytes for every width, and a group (32, 64 or 128 values) begins at a whole byte.
//
// Encoding gives the bytes of mx.quantize: the edge of larger magnitude is stored exactly as the bias, and the scale is
// adjusted so that zero lies on the grid.
#include <algorithm>
#include <array>
#include <limits>

#include "codec/affine_fit.h"
#include "codec/families.h"
#include "tensor/float_convert.h"

namespace mobilellm {
namespace {

constexpr int kMaxGroup = 128;

// 3, 5 or 6 bytes; a copy into a word of zeros would stall on its partial store.
template <int n>
uint64_t load_bytes(const uint8_t* source) {
  if constexpr (n == 3) return load_le<uint16_t>(source) | (uint64_t{source[2]} << 16);
  if constexpr (n == 5) return load_le<uint32_t>(source) | (uint64_t{source[4]} << 32);
  if constexpr (n == 6) return load_le<uint32_t>(source) | (uint64_t{load_le<uint16_t>(source + 4)} << 32);
}

// `n` values (a multiple of 8) from their bit stream.
template <int bits>
void unpack(const uint8_t* source, int n, uint8_t* out) {
  if constexpr (bits == 8) {
    std::memcpy(out, source, static_cast<size_t>(n));
  } else if constexpr (bits == 4) {
    for (int i = 0; i < n / 2; ++i) {
      out[2 * i] = source[i] & 15U;
      out[2 * i + 1] = static_cast<uint8_t>(source[i] >> 4);
    }
  } else if constexpr (bits == 2) {
    for (int i = 0; i < n / 4; ++i) {
      // Four copies of the byte, each shifted to its value.
      const uint32_t copies = source[i] * 0x01010101U;
      const uint32_t values =
          (copies & 0x3U) | ((copies >> 2) & 0x300U) | ((copies >> 4) & 0x30000U) | ((copies >> 6) & 0x3000000U);
      std::memcpy(out + 4 * i, &values, sizeof(values));
    }
  } else {
    // 8 values of 3, 5 or 6 bits in one 64-bit word, spread to bytes by halving the fields three times.
    constexpr uint64_t kPart1 = (uint64_t{1} << (4 * bits)) - 1;
    constexpr uint64_t kPart2 = (uint64_t{1} << (2 * bits)) - 1;
    constexpr uint64_t kPart3 = (uint64_t{1} << bits) - 1;
    constexpr uint64_t kMask2 = kPart2 | (kPart2 << 32);
    constexpr uint64_t kMask3 = kPart3 * 0x0001000100010001U;
    for (int i = 0; i < n / 8; ++i) {
      uint64_t word = load_bytes<bits>(source + i * bits);
      word = (word & kPart1) | ((word >> (4 * bits)) << 32);
      word = (word & kMask2) | (((word >> (2 * bits)) & kMask2) << 16);
      word = (word & kMask3) | (((word >> bits) & kMask3) << 8);
      std::memcpy(out + 8 * i, &word, sizeof(word));
    }
  }
}

struct ScaleF32 {
  using Stored = float;
  static float decode(float value) { return value; }
};
struct ScaleF16 {
  using Stored = uint16_t;
  static float decode(uint16_t bits) { return fp16_to_float(bits); }
};
struct ScaleBF16 {
  using Stored = uint16_t;
  static float decode(uint16_t bits) { return bf16_to_float(bits); }
};

template <int bits, int group, typename Scale>
void decode_groups(const uint8_t* source, const uint8_t* scales, const uint8_t* biases, int64_t n_groups, float* out) {
  constexpr size_t kScaleBytes = sizeof(typename Scale::Stored);
  alignas(64) uint8_t values[kMaxGroup];
  for (int64_t g = 0; g < n_groups; ++g) {
    const float scale = Scale::decode(load_le<typename Scale::Stored>(scales));
    const float bias = Scale::decode(load_le<typename Scale::Stored>(biases));
    unpack<bits>(source, group, values);
    for (int i = 0; i < group; ++i) out[i] = scale * static_cast<float>(values[i]) + bias;
    source += group * bits / 8;
    scales += kScaleBytes;
    biases += kScaleBytes;
    out += group;
  }
}

using DecodeGroups = void (*)(const uint8_t*, const uint8_t*, const uint8_t*, int64_t, float*);

template <int bits, int group>
DecodeGroups select_scale(DType scale_dtype) {
  switch (scale_dtype) {
    case DType::kF16:
      return decode_groups<bits, group, ScaleF16>;
    case DType::kBF16:
      return decode_groups<bits, group, ScaleBF16>;
    default:
      return decode_groups<bits, group, ScaleF32>;
  }
}

template <int bits>
DecodeGroups select_group(int group_size, DType scale_dtype) {
  switch (group_size) {
    case 32:
      return select_scale<bits, 32>(scale_dtype);
    case 64:
      return select_scale<bits, 64>(scale_dtype);
    default:
      return select_scale<bits, 128>(scale_dtype);
  }
}

DecodeGroups select(int bits, int group_size, DType scale_dtype) {
  switch (bits) {
    case 2:
      return select_group<2>(group_size, scale_dtype);
    case 3:
      return select_group<3>(group_size, scale_dtype);
    case 4:
      return select_group<4>(group_size, scale_dtype);
    case 5:
      return select_group<5>(group_size, scale_dtype);
    case 6:
      return select_group<6>(group_size, scale_dtype);
    default:
      return select_group<8>(group_size, scale_dtype);
  }
}

// The inverse of unpack().
template <int bits>
void pack(const uint8_t* values, int n, uint8_t* out) {
  if constexpr (bits == 8) {
    std::memcpy(out, values, static_cast<size_t>(n));
  } else if constexpr (bits == 4) {
    for (int i = 0; i < n / 2; ++i) {
      out[i] = static_cast<uint8_t>(values[2 * i] | (values[2 * i + 1] << 4));
    }
  } else {
    // 8 bytes of `bits` bits in one word, moved together by doubling the fields three times.
    constexpr uint64_t kPart3 = (uint64_t{1} << bits) - 1;
    constexpr uint64_t kEven3 = kPart3 * 0x0001000100010001U;
    constexpr uint64_t kPart2 = (uint64_t{1} << (2 * bits)) - 1;
    constexpr uint64_t kEven2 = kPart2 | (kPart2 << 32);
    constexpr uint64_t kPart1 = (uint64_t{1} << (4 * bits)) - 1;
    for (int i = 0; i < n / 8; ++i) {
      uint64_t word = load_le<uint64_t>(values + 8 * i);
      word = (word & kEven3) | ((word >> (8 - bits)) & (kEven3 << bits));
      word = (word & kEven2) | ((word >> (16 - 2 * bits)) & (kEven2 << (2 * bits)));
      word = (word & kPart1) | ((word >> (32 - 4 * bits)) & (kPart1 << (4 * bits)));
      std::memcpy(out + i * bits, &word, bits);
    }
  }
}

struct Range {
  float min;
  float max;
};

// In lanes, so that the compiler makes vectors of it.
template <int group>
Range find_range(const float* values) {
  constexpr int kLanes = 16;
  float low[kLanes];
  float high[kLanes];
  for (int k = 0; k < kLanes; ++k) low[k] = high[k] = values[k];
  for (int i = kLanes; i < group; i += kLanes) {
    for (int k = 0; k < kLanes; ++k) {
      const float value = values[i + k];
      low[k] = value < low[k] ? value : low[k];
      high[k] = value > high[k] ? value : high[k];
    }
  }
  for (int step = kLanes / 2; step > 0; step /= 2) {
    for (int k = 0; k < step; ++k) {
      low[k] = low[k + step] < low[k] ? low[k + step] : low[k];
      high[k] = high[k + step] > high[k] ? high[k + step] : high[k];
    }
  }
  return {low[0], high[0]};
}

// Half to even for |x| < 2^22, without a call.
float round_small(float x) {
  constexpr float kShift = 12582912.0F;  // 1.5 * 2^23: its unit is 1.
  return (x + kShift) - kShift;
}

void store_scale(DType dtype, float value, uint8_t* out, int64_t index) {
  if (dtype == DType::kF32) {
    std::memcpy(out + 4 * index, &value, 4);
  } else {
    const uint16_t bits = dtype == DType::kF16 ? float_to_fp16(value) : float_to_bf16(value);
    std::memcpy(out + 2 * index, &bits, 2);
  }
}

// Codes come from the unrounded scale and bias, as in MLX, also when these are stored in 16 bits.
template <int bits, int group>
void encode_groups(const EncodeArgs& args) {
  constexpr float kTop = static_cast<float>((1 << bits) - 1);
  const int64_t n_groups = args.n_rows * (args.format.cols / group);
  const DType scale_dtype = args.format.scale_dtype;
  alignas(64) uint8_t codes[group];
  for (int64_t g = 0; g < n_groups; ++g) {
    const float* values = args.values + g * group;
    const Range range = find_range<group>(values);
    const AffineGrid grid = choose_mlx_grid(range.min, range.max, (1 << bits) - 1);
    for (int i = 0; i < group; ++i) {
      float code = round_small((values[i] - grid.bias) / grid.scale);
      code = code > 0.0F ? code : 0.0F;
      code = code < kTop ? code : kTop;
      codes[i] = static_cast<uint8_t>(static_cast<int32_t>(code));
    }
    pack<bits>(codes, group, args.data + g * (group * bits / 8));
    store_scale(scale_dtype, grid.scale, args.scales, g);
    store_scale(scale_dtype, grid.bias, args.biases, g);
  }
}

using Pack = void (*)(const uint8_t*, int, uint8_t*);

Pack select_pack(int bits) {
  switch (bits) {
    case 2:
      return pack<2>;
    case 3:
      return pack<3>;
    case 4:
      return pack<4>;
    case 5:
      return pack<5>;
    case 6:
      return pack<6>;
    default:
      return pack<8>;
  }
}

using EncodeGroups = void (*)(const EncodeArgs&);

template <int bits>
EncodeGroups select_encode_group(int group_size) {
  switch (group_size) {
    case 32:
      return encode_groups<bits, 32>;
    case 64:
      return encode_groups<bits, 64>;
    default:
      return encode_groups<bits, 128>;
  }
}

EncodeGroups select_encode(int bits, int group_size) {
  switch (bits) {
    case 2:
      return select_encode_group<2>(group_size);
    case 3:
      return select_encode_group<3>(group_size);
    case 4:
      return select_encode_group<4>(group_size);
    case 5:
      return select_encode_group<5>(group_size);
    case 6:
      return select_encode_group<6>(group_size);
    default:
      return select_encode_group<8>(group_size);
  }
}

template <int bits>
void unpack_row(const uint8_t* source, int64_t n, uint8_t* out) {
  for (int64_t k = 0; k < n; k += 32) unpack<bits>(source + k * bits / 8, 32, out + k);
}

void read_scales(const uint8_t* source, DType dtype, int64_t n, float* out) {
  for (int64_t i = 0; i < n; ++i) {
    switch (dtype) {
      case DType::kF16:
        out[i] = fp16_to_float(load_le<uint16_t>(source + 2 * i));
        break;
      case DType::kBF16:
        out[i] = bf16_to_float(load_le<uint16_t>(source + 2 * i));
        break;
      default:
        out[i] = load_le<float>(source + 4 * i);
    }
  }
}

class AffineCodec final : public Codec {
 public:
  const char* name() const override { return "affine"; }
  int64_t block_values(const StoredMatrix& matrix) const override { return matrix.group_size; }
  void decode_rows(const StoredMatrix& matrix, int64_t row_begin, int64_t row_end, float* out) const override {
    const int64_t row_groups = matrix.cols / matrix.group_size;
    const int64_t first = row_begin * row_groups;
    const int64_t scale_bytes = static_cast<int64_t>(dtype_info(matrix.scale_dtype).block_bytes);
    const DecodeGroups decode = select(matrix.bits, matrix.group_size, matrix.scale_dtype);
    decode(byte_pointer(matrix.data) + row_begin * (matrix.cols * matrix.bits / 8),
           byte_pointer(matrix.scales) + first * scale_bytes, byte_pointer(matrix.biases) + first * scale_bytes,
           (row_end - row_begin) * row_groups, out);
  }
  void encode_rows(const EncodeArgs& args) const override {
    select_encode(args.format.bits, args.format.group_size)(args);
  }
  float max_magnitude(const StoredMatrix& format) const override {
    if (format.scale_dtype == DType::kF16) return kMaxFp16;
    // The range of a group must be finite, and its ends must not round up to infinity.
    return std::numeric_limits<float>::max() / 4;
  }
  bool integer_form(const StoredMatrix& matrix, IntegerForm& form) const override {
    // Codes of 5, 6 and 8 bits are taken as signed numbers: small ones suit the products of bytes.
    const int zero = matrix.bits == 5 || matrix.bits == 6 ? 1 << (matrix.bits - 1) : 0;
    form = {.bits = matrix.bits,
            .group = matrix.group_size,
            .has_biases = true,
            .scale_dtype = matrix.scale_dtype,
            .zero = zero,
            .offset = matrix.bits == 8 ? 128 : zero,
            .table = kUnsignedCodes};
    return true;
  }
  void read_integers(const StoredMatrix& matrix, int64_t row, const IntegerRow& out) const override {
    const int64_t n = matrix.cols;
    const uint8_t* source = byte_pointer(matrix.data) + row * (n * matrix.bits / 8);
    switch (matrix.bits) {
      case 2:
        unpack_row<2>(source, n, out.codes);
        break;
      case 3:
        unpack_row<3>(source, n, out.codes);
        break;
      case 4:
        unpack_row<4>(source, n, out.codes);
        break;
      case 5:
        unpack_row<5>(source, n, out.codes);
        break;
      case 6:
        unpack_row<6>(source, n, out.codes);
        break;
      default:
        for (int64_t i = 0; i < n; ++i) out.codes[i] = static_cast<uint8_t>(source[i] - 128);
    }
    const int64_t groups = n / matrix.group_size;
    const auto offset = row * groups * static_cast<int64_t>(dtype_info(matrix.scale_dtype).block_bytes);
    read_scales(byte_pointer(matrix.scales) + offset, matrix.scale_dtype, groups, out.scales);
    read_scales(byte_pointer(matrix.biases) + offset, matrix.scale_dtype, groups, out.biases);
  }
};

const AffineCodec kAffineCodec;

}  // namespace

void store_affine_groups(const StoredMatrix& format, int64_t n_groups, const uint8_t* codes, const float* scales,
                         const float* biases, uint8_t* data, uint8_t* stored_scales, uint8_t* stored_biases) {
  const Pack pack_group = select_pack(format.bits);
  for (int64_t g = 0; g < n_groups; ++g) {
    pack_group(codes + g * format.group_size, format.group_size, data + g * (format.group_size * format.bits / 8));
    store_scale(format.scale_dtype, scales[g], stored_scales, g);
    store_scale(format.scale_dtype, biases[g], stored_biases, g);
  }
}

const Codec* affine_codec() { return &kAffineCodec; }

std::span<const Codec* const> affine_codecs() {
  static constexpr std::array<const Codec*, 1> kCodecs = {&kAffineCodec};
  return kCodecs;
}

}  // namespace mobilellm
