// Scalar floating types: one number after another.
#include <array>
#include <limits>

#include "codec/families.h"
#include "tensor/float_convert.h"

namespace mobilellm {
namespace {

template <float (*convert)(uint8_t)>
constexpr std::array<float, 256> make_table() {
  std::array<float, 256> table{};
  for (unsigned bits = 0; bits < 256; ++bits) table[bits] = convert(static_cast<uint8_t>(bits));
  return table;
}

constexpr std::array<float, 256> kE4M3 = make_table<f8_e4m3_to_float>();
constexpr std::array<float, 256> kE5M2 = make_table<f8_e5m2_to_float>();

struct F32 {
  static constexpr const char* kName = "f32";
  static constexpr float kMaxMagnitude = std::numeric_limits<float>::max();
  using Stored = float;
  static float decode(float value) { return value; }
  static float encode(float value) { return value; }
};

struct F16 {
  static constexpr const char* kName = "f16";
  static constexpr float kMaxMagnitude = 0x1.ffdffep15F;  ///< The next float rounds to infinity.
  using Stored = uint16_t;
  static float decode(uint16_t bits) { return fp16_to_float(bits); }
  static uint16_t encode(float value) { return float_to_fp16(value); }
};

struct BF16 {
  static constexpr const char* kName = "bf16";
  static constexpr float kMaxMagnitude = 0x1.fefffep127F;  ///< The next float rounds to infinity.
  using Stored = uint16_t;
  static float decode(uint16_t bits) { return bf16_to_float(bits); }
  static uint16_t encode(float value) { return float_to_bf16(value); }
};

struct F64 {
  static constexpr const char* kName = "f64";
  static constexpr float kMaxMagnitude = std::numeric_limits<float>::max();
  using Stored = double;
  static float decode(double value) { return static_cast<float>(value); }
  static double encode(float value) { return value; }
};

struct F8E4M3 {
  static constexpr const char* kName = "f8_e4m3";
  static constexpr float kMaxMagnitude = 448.0F;
  using Stored = uint8_t;
  static float decode(uint8_t bits) { return kE4M3[bits]; }
  static uint8_t encode(float value) { return float_to_f8_e4m3(value); }
};

struct F8E5M2 {
  static constexpr const char* kName = "f8_e5m2";
  static constexpr float kMaxMagnitude = 57344.0F;
  using Stored = uint8_t;
  static float decode(uint8_t bits) { return kE5M2[bits]; }
  static uint8_t encode(float value) { return float_to_f8_e5m2(value); }
};

template <typename Scalar>
class PlainCodec final : public Codec {
 public:
  const char* name() const override { return Scalar::kName; }
  int64_t block_values(const StoredMatrix& /*matrix*/) const override { return 1; }
  void decode_rows(const StoredMatrix& matrix, int64_t row_begin, int64_t row_end, float* out) const override {
    using Stored = typename Scalar::Stored;
    const int64_t n = (row_end - row_begin) * matrix.cols;
    const uint8_t* source = byte_pointer(matrix.data) + row_begin * matrix.cols * int64_t{sizeof(Stored)};
    for (int64_t i = 0; i < n; ++i) out[i] = Scalar::decode(load_le<Stored>(source + i * int64_t{sizeof(Stored)}));
  }
  void encode_rows(const EncodeArgs& args) const override {
    using Stored = typename Scalar::Stored;
    const int64_t n = args.n_rows * args.format.cols;
    for (int64_t i = 0; i < n; ++i) {
      const Stored value = Scalar::encode(args.values[i]);
      std::memcpy(args.data + i * int64_t{sizeof(Stored)}, &value, sizeof(Stored));
    }
  }
  float max_magnitude(const StoredMatrix& /*format*/) const override { return Scalar::kMaxMagnitude; }
};

const PlainCodec<F32> kF32Codec;
const PlainCodec<F16> kF16Codec;
const PlainCodec<BF16> kBF16Codec;
const PlainCodec<F64> kF64Codec;
const PlainCodec<F8E4M3> kF8E4M3Codec;
const PlainCodec<F8E5M2> kF8E5M2Codec;

}  // namespace

std::span<const Codec* const> plain_codecs() {
  static constexpr std::array<const Codec*, 6> kCodecs = {&kF32Codec, &kF16Codec,    &kBF16Codec,
                                                          &kF64Codec, &kF8E4M3Codec, &kF8E5M2Codec};
  return kCodecs;
}

}  // namespace mobilellm
