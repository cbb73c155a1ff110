// Small floats with one scale per group: GGUF's MXFP4 blocks and MLX's mxfp4, nvfp4 and mxfp8.
//
//   GGUF MXFP4: scale[1] (E8M0), qs[16]: 32 E2M1 codes, values 0..15 in the low nibbles, 16..31 in the high ones
//   mxfp4: groups of 32 E2M1 codes, low nibble first; scale E8M0
//   nvfp4: groups of 16 E2M1 codes, low nibble first; scale E4M3
//   mxfp8: groups of 32 E4M3 codes; scale E8M0
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "base/error.h"
#include "codec/families.h"
#include "tensor/float_convert.h"

namespace mobilellm {
namespace {

constexpr std::array<float, 16> make_e2m1_table() {
  std::array<float, 16> table{};
  for (unsigned code = 0; code < 16; ++code) table[code] = e2m1_to_float(static_cast<uint8_t>(code));
  return table;
}

constexpr std::array<float, 256> make_e4m3_table() {
  std::array<float, 256> table{};
  for (unsigned code = 0; code < 256; ++code) table[code] = f8_e4m3_to_float(static_cast<uint8_t>(code));
  return table;
}

constexpr std::array<float, 16> kE2M1 = make_e2m1_table();
constexpr std::array<float, 256> kE4M3 = make_e4m3_table();

// Largest magnitude of n values (a multiple of 16), in lanes so that the compiler makes vectors of it.
template <int n>
float find_max_magnitude(const float* values) {
  float lanes[16] = {};
  for (int i = 0; i < n; i += 16) {
    for (int k = 0; k < 16; ++k) {
      const float magnitude = std::fabs(values[i + k]);
      lanes[k] = magnitude > lanes[k] ? magnitude : lanes[k];
    }
  }
  return *std::max_element(lanes, lanes + 16);
}

// log2 rounded to float, as both reference encoders take it, whatever the C library.
float log2_float(float x) { return static_cast<float>(std::log2(static_cast<double>(x))); }

// The nearest E2M1 code as both reference encoders have it: ties go to the smaller magnitude, zero has no sign.
uint8_t encode_e2m1(float x) {
  const float a = std::fabs(x);
  const int code = static_cast<int>(a > 0.25F) + static_cast<int>(a > 0.75F) + static_cast<int>(a > 1.25F) +
                   static_cast<int>(a > 1.75F) + static_cast<int>(a > 2.5F) + static_cast<int>(a > 3.5F) +
                   static_cast<int>(a > 5.0F);
  const auto sign = static_cast<int>((std::bit_cast<uint32_t>(x) >> 28) & 8U);
  return static_cast<uint8_t>(code == 0 ? 0 : code | sign);
}

// Twice the E2M1 values are whole numbers.
constexpr std::array<int8_t, 16> kDoubledE2M1 = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

struct MXFP4 {
  static constexpr const char* kName = "mxfp4_gguf";
  static constexpr int64_t kValues = 32;
  static constexpr int64_t kBytes = 17;
  static constexpr float kMaxMagnitude = std::numeric_limits<float>::max();
  static constexpr IntegerForm kForm = {.bits = 4, .scale_dtype = DType::kBF16, .table = kDoubledE2M1};
  static void split(const uint8_t* block, const IntegerRow& out) {
    for (int i = 0; i < 16; ++i) {
      out.codes[i] = block[1 + i] & 15U;
      out.codes[i + 16] = static_cast<uint8_t>(block[1 + i] >> 4);
    }
    out.scales[0] = 0.5F * e8m0_to_float(block[0]);
  }
  static void decode(const uint8_t* block, float* out) {
    const float scale = e8m0_to_float(block[0]);
    for (int i = 0; i < 16; ++i) {
      out[i] = scale * kE2M1[block[1 + i] & 15U];
      out[i + 16] = scale * kE2M1[block[1 + i] >> 4];
    }
  }
  // The exponent of the largest magnitude less 2: that magnitude becomes 4 to 8 units, of which 6 is the largest code.
  static void encode(const float* values, const float* /*importance*/, uint8_t* block) {
    const float largest = find_max_magnitude<32>(values);
    const float exponent = largest > 0.0F ? std::max(std::floor(log2_float(largest)) + 125.0F, 0.0F) : 0.0F;
    block[0] = static_cast<uint8_t>(exponent);
    const float scale = e8m0_to_float(block[0]);
    uint8_t codes[32];
    for (int i = 0; i < 32; ++i) codes[i] = encode_e2m1(values[i] / scale);
    for (int i = 0; i < 16; ++i) block[1 + i] = static_cast<uint8_t>(codes[i] | (codes[i + 16] << 4));
  }
};

void unpack_pairs(const uint8_t* source, int64_t n, uint8_t* codes) {
  for (int64_t i = 0; i < n / 2; ++i) {
    codes[2 * i] = source[i] & 15U;
    codes[2 * i + 1] = static_cast<uint8_t>(source[i] >> 4);
  }
}

// E2M1 codes, two to a byte. Unpacking first keeps the look-ups free of shuffles, which the compiler turns into slow
// code.
template <int n_bytes>
void decode_pairs(const uint8_t* codes, float scale, float* out) {
  uint8_t values[2 * n_bytes];
  for (int i = 0; i < n_bytes; ++i) {
    values[2 * i] = codes[i] & 15U;
    values[2 * i + 1] = static_cast<uint8_t>(codes[i] >> 4);
  }
  for (int i = 0; i < 2 * n_bytes; ++i) out[i] = scale * kE2M1[values[i]];
}

// Two codes to a byte, for values in units of `scale`.
template <int n_bytes>
void encode_pairs(const float* values, float scale, uint8_t* out) {
  uint8_t codes[2 * n_bytes];
  for (int i = 0; i < 2 * n_bytes; ++i) codes[i] = encode_e2m1(values[i] / scale);
  for (int i = 0; i < n_bytes; ++i) out[i] = static_cast<uint8_t>(codes[2 * i] | (codes[2 * i + 1] << 4));
}

// The smallest power of two that brings `largest` to at most `top`, as E8M0; 1 for a group of zeros.
uint8_t choose_e8m0(float largest, float top) {
  const float unit = largest / top;
  if (unit == 0.0F) return 127;
  return static_cast<uint8_t>(std::max(std::ceil(log2_float(unit)) + 127.0F, 0.0F));
}

struct Mxfp4Group {
  static constexpr const char* kName = "mxfp4";
  static constexpr int64_t kValues = 32;
  static constexpr int64_t kBytes = 16;
  static constexpr DType kScaleDType = DType::kBF16;
  static float half_scale(uint8_t bits) { return 0.5F * e8m0_to_float(bits); }
  static void decode(const uint8_t* codes, uint8_t scale_bits, float* out) {
    const float scale = e8m0_to_float(scale_bits);
    decode_pairs<kBytes>(codes, scale, out);
  }
  static constexpr float kMaxMagnitude = std::numeric_limits<float>::max();
  static uint8_t encode(const float* values, uint8_t* codes) {
    const uint8_t scale_bits = choose_e8m0(find_max_magnitude<kValues>(values), 6.0F);
    encode_pairs<kBytes>(values, e8m0_to_float(scale_bits), codes);
    return scale_bits;
  }
};

struct Nvfp4Group {
  static constexpr const char* kName = "nvfp4";
  static constexpr int64_t kValues = 16;
  static constexpr int64_t kBytes = 8;
  static constexpr DType kScaleDType = DType::kF16;
  static float half_scale(uint8_t bits) { return 0.5F * kE4M3[bits]; }
  static void decode(const uint8_t* codes, uint8_t scale_bits, float* out) {
    const float scale = kE4M3[scale_bits];
    decode_pairs<kBytes>(codes, scale, out);
  }
  static constexpr float kMaxMagnitude = 448.0F * 6.0F;
  static uint8_t encode(const float* values, uint8_t* codes) {
    const uint8_t scale_bits = float_to_f8_e4m3(find_max_magnitude<kValues>(values) / 6.0F);
    if (scale_bits == 0) {
      std::memset(codes, 0, kBytes);
    } else {
      encode_pairs<kBytes>(values, kE4M3[scale_bits], codes);
    }
    return scale_bits;
  }
};

struct Mxfp8Group {
  static constexpr const char* kName = "mxfp8";
  static constexpr int64_t kValues = 32;
  static constexpr int64_t kBytes = 32;
  static void decode(const uint8_t* codes, uint8_t scale_bits, float* out) {
    const float scale = e8m0_to_float(scale_bits);
    for (int i = 0; i < kValues; ++i) out[i] = scale * kE4M3[codes[i]];
  }
  static constexpr float kMaxMagnitude = std::numeric_limits<float>::max();
  static uint8_t encode(const float* values, uint8_t* codes) {
    const uint8_t scale_bits = choose_e8m0(find_max_magnitude<kValues>(values), 448.0F);
    const float scale = e8m0_to_float(scale_bits);
    for (int i = 0; i < kValues; ++i) codes[i] = float_to_f8_e4m3(values[i] / scale);
    return scale_bits;
  }
};

template <typename Group>
class PackedCodec final : public Codec {
 public:
  const char* name() const override { return Group::kName; }
  int64_t block_values(const StoredMatrix& /*matrix*/) const override { return Group::kValues; }
  void decode_rows(const StoredMatrix& matrix, int64_t row_begin, int64_t row_end, float* out) const override {
    const int64_t row_groups = matrix.cols / Group::kValues;
    const int64_t first = row_begin * row_groups;
    const int64_t n_groups = (row_end - row_begin) * row_groups;
    const uint8_t* codes = byte_pointer(matrix.data) + first * Group::kBytes;
    const uint8_t* scales = byte_pointer(matrix.scales) + first;
    for (int64_t g = 0; g < n_groups; ++g) {
      Group::decode(codes + g * Group::kBytes, scales[g], out + g * Group::kValues);
    }
  }
  bool integer_form(const StoredMatrix& /*matrix*/, IntegerForm& form) const override {
    if constexpr (requires { Group::kScaleDType; }) {
      form = {.bits = 4, .group = Group::kValues, .scale_dtype = Group::kScaleDType, .table = kDoubledE2M1};
      return true;
    }
    return false;
  }
  void read_integers(const StoredMatrix& matrix, int64_t row, const IntegerRow& out) const override {
    if constexpr (requires { Group::kScaleDType; }) {
      const int64_t groups = matrix.cols / Group::kValues;
      unpack_pairs(byte_pointer(matrix.data) + row * groups * Group::kBytes, matrix.cols, out.codes);
      const uint8_t* source = byte_pointer(matrix.scales) + row * groups;
      for (int64_t g = 0; g < groups; ++g) out.scales[g] = Group::half_scale(source[g]);
    }
  }
  void encode_rows(const EncodeArgs& args) const override {
    const int64_t n_groups = args.n_rows * (args.format.cols / Group::kValues);
    for (int64_t g = 0; g < n_groups; ++g) {
      args.scales[g] = Group::encode(args.values + g * Group::kValues, args.data + g * Group::kBytes);
    }
  }
  float max_magnitude(const StoredMatrix& /*format*/) const override { return Group::kMaxMagnitude; }
};

const BlockCodec<MXFP4> kGgufMxfp4Codec;
const PackedCodec<Mxfp4Group> kMxfp4Codec;
const PackedCodec<Nvfp4Group> kNvfp4Codec;
const PackedCodec<Mxfp8Group> kMxfp8Codec;

}  // namespace

const Codec* mx_packed_codec(QuantMode mode) {
  switch (mode) {
    case QuantMode::kMxfp4:
      return &kMxfp4Codec;
    case QuantMode::kNvfp4:
      return &kNvfp4Codec;
    case QuantMode::kMxfp8:
      return &kMxfp8Codec;
    case QuantMode::kAffine:
      break;
  }
  fail(ErrorCode::kInvalidArgument, "[codec] mode: got {}, expected mxfp4, nvfp4 or mxfp8", quant_mode_name(mode));
}

std::span<const Codec* const> mx_codecs() {
  static constexpr std::array<const Codec*, 4> kCodecs = {&kGgufMxfp4Codec, &kMxfp4Codec, &kNvfp4Codec, &kMxfp8Codec};
  return kCodecs;
}

}  // namespace mobilellm
