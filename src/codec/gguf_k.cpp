// GGUF's super-blocks of 256 values (K-quants, IQ4_XS) and the table type IQ4_NL.
//
// A super-block has one or two fp16 scales (d, dmin) and a small integer scale (and minimum) per sub-block of 16 or 32
// values. The layouts, field by field:
//   type    fields                             q        value                                  sub-block
//   Q2_K:   scales[16] qs[64] d dmin           0..3     d * (scale & 15) * q - dmin * (scale >> 4)   16
//   Q3_K:   hmask[32] qs[64] scales[12] d      -4..3    d * (scale - 32) * q                         16
//   Q4_K:   d dmin scales[12] qs[128]          0..15    d * scale * q - dmin * min                   32
//   Q5_K:   d dmin scales[12] qh[32] qs[128]   0..31    d * scale * q - dmin * min                   32
//   Q6_K:   ql[128] qh[64] scales[16] d        -32..31  d * scale * q                                16
//   IQ4_XS: d scales_h[2] scales_l[4] qs[128]  table    d * (scale - 32) * table[q]                  32
//   IQ4_NL: d qs[16]                           table    d * table[q]                                 32 (the block)
// Each decoder first unpacks the bits to bytes and then scales them: both loops vectorise. Encoders pack what
// super_block.h chooses.
#include <algorithm>
#include <array>

#include "codec/affine_fit.h"
#include "codec/block_search.h"
#include "codec/families.h"
#include "codec/super_block.h"
#include "tensor/float_convert.h"

namespace mobilellm {
namespace {

constexpr int64_t kSuperBlock = kSuperBlockValues;

float load_fp16(const uint8_t* source) { return fp16_to_float(load_le<uint16_t>(source)); }

// out = d * q - m over one sub-block.
template <int n>
void scale_and_subtract(const uint8_t* values, float d, float m, float* out) {
  for (int i = 0; i < n; ++i) out[i] = d * static_cast<float>(values[i]) - m;
}

// Super-blocks of centered codes with one scale per 16.
template <typename Block>
void decode_sub_blocks(const uint8_t* block, float* out) {
  alignas(64) uint8_t codes[kSuperBlock];
  float scales[kSuperBlock / 16];
  float d = 0;
  Block::split(block, {codes, scales, nullptr, &d, nullptr});
  for (int s = 0; s < kSuperBlock / 16; ++s) {
    const float scale = d * scales[s];
    for (int i = 0; i < 16; ++i) out[16 * s + i] = scale * static_cast<float>(codes[16 * s + i] - Block::kCenter);
  }
}

// 2-bit values of Q2_K and Q3_K: bytes 0..31 of qs hold values 0..127 (value 32 * s + i in bits 2s of byte i), bytes
// 32..63 the other half.
void unpack_2_bits(const uint8_t* qs, uint8_t* values) {
  for (int half = 0; half < 2; ++half) {
    for (int s = 0; s < 4; ++s) {
      for (int i = 0; i < 32; ++i) values[128 * half + 32 * s + i] = (qs[32 * half + i] >> (2 * s)) & 3U;
    }
  }
}

// 6-bit scales and minima of Q4_K and Q5_K: 8 of each in 12 bytes.
void unpack_k4_scales(const uint8_t* packed, uint8_t* scales, uint8_t* mins) {
  for (int i = 0; i < 4; ++i) {
    scales[i] = packed[i] & 63U;
    mins[i] = packed[i + 4] & 63U;
    scales[i + 4] = static_cast<uint8_t>((packed[i + 8] & 15U) | ((packed[i] >> 6) << 4));
    mins[i + 4] = static_cast<uint8_t>((packed[i + 8] >> 4) | ((packed[i + 4] >> 6) << 4));
  }
}

// 4-bit values of Q4_K and Q5_K: 32 bytes hold values 64 k + i in the low and 64 k + 32 + i in the high nibbles.
void unpack_nibbles(const uint8_t* qs, uint8_t* values) {
  for (int k = 0; k < 4; ++k) {
    for (int i = 0; i < 32; ++i) {
      values[64 * k + i] = qs[32 * k + i] & 15U;
      values[64 * k + 32 + i] = static_cast<uint8_t>(qs[32 * k + i] >> 4);
    }
  }
}

// Values of a block of Q4_K or Q5_K, which begin alike.
void scale_k4(const uint8_t* values, const uint8_t* block, float* out) {
  uint8_t scales[8];
  uint8_t mins[8];
  unpack_k4_scales(block + 4, scales, mins);
  const float d = load_fp16(block);
  const float dmin = load_fp16(block + 2);
  for (int s = 0; s < 8; ++s) {
    scale_and_subtract<32>(values + 32 * s, d * static_cast<float>(scales[s]), dmin * static_cast<float>(mins[s]),
                           out + 32 * s);
  }
}

void split_k4_scales(const uint8_t* block, const IntegerRow& out) {
  uint8_t scales[8];
  uint8_t mins[8];
  unpack_k4_scales(block + 4, scales, mins);
  for (int s = 0; s < 8; ++s) {
    out.scales[s] = static_cast<float>(scales[s]);
    out.biases[s] = static_cast<float>(mins[s]);
  }
  out.outer_scales[0] = load_fp16(block);
  out.outer_biases[0] = -load_fp16(block + 2);
}

void store_fp16(float value, uint8_t* out) {
  const uint16_t bits = float_to_fp16(value);
  std::memcpy(out, &bits, sizeof(bits));
}

SuperBlock choose(const SuperBlockShape& shape, const float* x, const float* importance) {
  SuperBlock chosen;
  if (importance == nullptr) {
    choose_super_block(shape, x, chosen);
  } else {
    choose_super_block(shape, x, importance, chosen);
  }
  return chosen;
}

// The inverses of the functions above; only the low bits of each value count.
void pack_2_bits(const uint8_t* values, uint8_t* qs) {
  for (int half = 0; half < 2; ++half) {
    for (int i = 0; i < 32; ++i) {
      unsigned byte = 0;
      for (int s = 0; s < 4; ++s) byte |= (values[128 * half + 32 * s + i] & 3U) << (2 * s);
      qs[32 * half + i] = static_cast<uint8_t>(byte);
    }
  }
}

void pack_nibbles(const uint8_t* values, uint8_t* qs) {
  for (int k = 0; k < 4; ++k) {
    for (int i = 0; i < 32; ++i) {
      qs[32 * k + i] = static_cast<uint8_t>((values[64 * k + i] & 15U) | (values[64 * k + 32 + i] << 4));
    }
  }
}

// Bit k of out[i] is bit `bit` of value 32 k + i.
void pack_high_bits(const uint8_t* values, int bit, uint8_t* out) {
  for (int i = 0; i < 32; ++i) {
    unsigned byte = 0;
    for (int k = 0; k < 8; ++k) byte |= ((values[32 * k + i] >> bit) & 1U) << k;
    out[i] = static_cast<uint8_t>(byte);
  }
}

void pack_k4(const SuperBlock& chosen, uint8_t* block) {
  store_fp16(chosen.d, block);
  store_fp16(chosen.dmin, block + 2);
  uint8_t* packed = block + 4;
  for (int i = 0; i < 4; ++i) {
    const auto high_scale = static_cast<unsigned>(chosen.scales[i + 4]);
    const auto high_min = static_cast<unsigned>(chosen.mins[i + 4]);
    packed[i] = static_cast<uint8_t>(static_cast<unsigned>(chosen.scales[i]) | ((high_scale >> 4) << 6));
    packed[i + 4] = static_cast<uint8_t>(static_cast<unsigned>(chosen.mins[i]) | ((high_min >> 4) << 6));
    packed[i + 8] = static_cast<uint8_t>((high_scale & 15U) | ((high_min & 15U) << 4));
  }
}

struct Q2_K {
  static constexpr const char* kName = "q2_k";
  static constexpr int64_t kValues = kSuperBlock;
  static constexpr int64_t kBytes = 84;
  static constexpr float kMaxMagnitude = kMaxFp16;
  static void decode(const uint8_t* block, float* out) {
    alignas(64) uint8_t values[kValues];
    unpack_2_bits(block + 16, values);
    const float d = load_fp16(block + 80);
    const float dmin = load_fp16(block + 82);
    for (int s = 0; s < 16; ++s) {
      scale_and_subtract<16>(values + 16 * s, d * static_cast<float>(block[s] & 15U),
                             dmin * static_cast<float>(block[s] >> 4), out + 16 * s);
    }
  }
  static void encode(const float* x, const float* importance, uint8_t* block) {
    const SuperBlock chosen = choose(kShapeQ2K, x, importance);
    for (int s = 0; s < 16; ++s) block[s] = static_cast<uint8_t>(chosen.scales[s] | (chosen.mins[s] << 4));
    pack_2_bits(chosen.codes, block + 16);
    store_fp16(chosen.d, block + 80);
    store_fp16(chosen.dmin, block + 82);
  }
};

struct Q3_K {
  static constexpr const char* kName = "q3_k";
  static constexpr int64_t kValues = kSuperBlock;
  static constexpr int64_t kBytes = 110;
  static constexpr float kMaxMagnitude = kMaxFp16;
  static constexpr int kCenter = 4;
  static constexpr IntegerForm kForm = {
      .bits = 3, .group = 16, .scale_dtype = DType::kI8, .table = {-4, -3, -2, -1, 0, 1, 2, 3}};
  static void split(const uint8_t* block, const IntegerRow& out) {
    unpack_2_bits(block + 32, out.codes);
    // Bit k of hmask[i] belongs to value 32 k + i.
    for (int k = 0; k < 8; ++k) {
      for (int i = 0; i < 32; ++i) {
        out.codes[32 * k + i] = static_cast<uint8_t>(out.codes[32 * k + i] | (((block[i] >> k) & 1U) << 2));
      }
    }
    // 16 scales of 6 bits: low nibbles in bytes 0..7, the upper two bits in bytes 8..11.
    const uint8_t* packed = block + 96;
    for (int s = 0; s < 16; ++s) {
      const unsigned low = (packed[s % 8] >> (4 * (s / 8))) & 15U;
      const unsigned high = (packed[8 + s % 4] >> (2 * (s / 4))) & 3U;
      out.scales[s] = static_cast<float>(static_cast<int>(low | (high << 4)) - 32);
    }
    out.outer_scales[0] = load_fp16(block + 108);
  }
  static void decode(const uint8_t* block, float* out) { decode_sub_blocks<Q3_K>(block, out); }
  static void encode(const float* x, const float* importance, uint8_t* block) {
    const SuperBlock chosen = choose(kShapeQ3K, x, importance);
    pack_high_bits(chosen.codes, 2, block);
    pack_2_bits(chosen.codes, block + 32);
    uint8_t* packed = block + 96;
    // A super-block of zeros has scales of zero bits, as ggml writes them.
    const bool is_zero =
        chosen.d == 0.0F && std::all_of(chosen.scales, chosen.scales + 16, [](int v) { return v == 0; });
    const int center = is_zero ? 0 : 32;
    std::memset(packed, 0, 12);
    for (int s = 0; s < 16; ++s) {
      const auto scale = static_cast<unsigned>(chosen.scales[s] + center);
      packed[s % 8] = static_cast<uint8_t>(packed[s % 8] | ((scale & 15U) << (4 * (s / 8))));
      packed[8 + s % 4] = static_cast<uint8_t>(packed[8 + s % 4] | ((scale >> 4) << (2 * (s / 4))));
    }
    store_fp16(chosen.d, block + 108);
  }
};

struct Q4_K {
  static constexpr const char* kName = "q4_k";
  static constexpr int64_t kValues = kSuperBlock;
  static constexpr int64_t kBytes = 144;
  static constexpr float kMaxMagnitude = kMaxFp16;
  static constexpr IntegerForm kForm = {
      .bits = 4, .has_biases = true, .scale_dtype = DType::kI8, .table = kUnsignedCodes};
  static void split(const uint8_t* block, const IntegerRow& out) {
    unpack_nibbles(block + 16, out.codes);
    split_k4_scales(block, out);
  }
  static void decode(const uint8_t* block, float* out) {
    alignas(64) uint8_t values[kValues];
    unpack_nibbles(block + 16, values);
    scale_k4(values, block, out);
  }
  static void encode(const float* x, const float* importance, uint8_t* block) {
    const SuperBlock chosen = choose(kShapeQ4K, x, importance);
    pack_k4(chosen, block);
    pack_nibbles(chosen.codes, block + 16);
  }
};

struct Q5_K {
  static constexpr const char* kName = "q5_k";
  static constexpr int64_t kValues = kSuperBlock;
  static constexpr int64_t kBytes = 176;
  static constexpr float kMaxMagnitude = kMaxFp16;
  static constexpr IntegerForm kForm = {
      .bits = 5, .has_biases = true, .scale_dtype = DType::kI8, .zero = 16, .offset = 16};
  static void unpack(const uint8_t* block, uint8_t* values) {
    unpack_nibbles(block + 48, values);
    // Bit k of qh[i] is the fifth bit of value 32 k + i.
    const uint8_t* qh = block + 16;
    for (int k = 0; k < 8; ++k) {
      for (int i = 0; i < 32; ++i) {
        values[32 * k + i] = static_cast<uint8_t>(values[32 * k + i] | (((qh[i] >> k) & 1U) << 4));
      }
    }
  }
  static void split(const uint8_t* block, const IntegerRow& out) {
    unpack(block, out.codes);
    split_k4_scales(block, out);
  }
  static void decode(const uint8_t* block, float* out) {
    alignas(64) uint8_t values[kValues];
    unpack(block, values);
    scale_k4(values, block, out);
  }
  static void encode(const float* x, const float* importance, uint8_t* block) {
    const SuperBlock chosen = choose(kShapeQ5K, x, importance);
    pack_k4(chosen, block);
    pack_high_bits(chosen.codes, 4, block + 16);
    pack_nibbles(chosen.codes, block + 48);
  }
};

struct Q6_K {
  static constexpr const char* kName = "q6_k";
  static constexpr int64_t kValues = kSuperBlock;
  static constexpr int64_t kBytes = 210;
  static constexpr float kMaxMagnitude = kMaxFp16;
  static constexpr int kCenter = 32;
  static constexpr IntegerForm kForm = {.bits = 6, .group = 16, .scale_dtype = DType::kI8, .zero = kCenter};
  static void split(const uint8_t* block, const IntegerRow& out) {
    for (int half = 0; half < 2; ++half) {
      const uint8_t* ql = block + 64 * half;
      const uint8_t* qh = block + 128 + 32 * half;
      uint8_t* v = out.codes + 128 * half;
      for (int i = 0; i < 32; ++i) {
        v[i] = static_cast<uint8_t>((ql[i] & 15U) | ((qh[i] & 3U) << 4));
        v[i + 32] = static_cast<uint8_t>((ql[i + 32] & 15U) | (((qh[i] >> 2) & 3U) << 4));
        v[i + 64] = static_cast<uint8_t>((ql[i] >> 4) | (((qh[i] >> 4) & 3U) << 4));
        v[i + 96] = static_cast<uint8_t>((ql[i + 32] >> 4) | ((qh[i] >> 6) << 4));
      }
    }
    for (int s = 0; s < 16; ++s) out.scales[s] = static_cast<float>(static_cast<int8_t>(block[192 + s]));
    out.outer_scales[0] = load_fp16(block + 208);
  }
  static void decode(const uint8_t* block, float* out) { decode_sub_blocks<Q6_K>(block, out); }
  static void encode(const float* x, const float* importance, uint8_t* block) {
    const SuperBlock chosen = choose(kShapeQ6K, x, importance);
    for (int half = 0; half < 2; ++half) {
      const uint8_t* v = chosen.codes + 128 * half;
      uint8_t* ql = block + 64 * half;
      uint8_t* qh = block + 128 + 32 * half;
      for (int i = 0; i < 32; ++i) {
        ql[i] = static_cast<uint8_t>((v[i] & 15U) | (v[i + 64] << 4));
        ql[i + 32] = static_cast<uint8_t>((v[i + 32] & 15U) | (v[i + 96] << 4));
        qh[i] = static_cast<uint8_t>((v[i] >> 4) | ((v[i + 32] >> 4) << 2) | ((v[i + 64] >> 4) << 4) |
                                     ((v[i + 96] >> 4) << 6));
      }
    }
    for (int s = 0; s < 16; ++s) block[192 + s] = static_cast<uint8_t>(static_cast<int8_t>(chosen.scales[s]));
    store_fp16(chosen.d, block + 208);
  }
};

constexpr std::array<int8_t, 16> make_levels() {
  std::array<int8_t, 16> levels{};
  for (size_t i = 0; i < levels.size(); ++i) levels[i] = static_cast<int8_t>(kNonlinearLevels[i]);
  return levels;
}
constexpr std::array<int8_t, 16> kLevels = make_levels();

void unpack_levels(const uint8_t* qs, uint8_t* codes) {
  for (int i = 0; i < 16; ++i) {
    codes[i] = qs[i] & 15U;
    codes[i + 16] = static_cast<uint8_t>(qs[i] >> 4);
  }
}

// 32 values: 0..15 in the low nibbles of 16 bytes, 16..31 in the high ones.
void decode_levels(const uint8_t* qs, float d, float* out) {
  for (int i = 0; i < 16; ++i) {
    out[i] = d * static_cast<float>(kLevels[qs[i] & 15U]);
    out[i + 16] = d * static_cast<float>(kLevels[qs[i] >> 4]);
  }
}

void pack_levels(const uint8_t* codes, uint8_t* qs) {
  for (int i = 0; i < 16; ++i) qs[i] = static_cast<uint8_t>(codes[i] | (codes[i + 16] << 4));
}

void encode_levels(const float* x, float inverse, uint8_t* qs) {
  uint8_t codes[32];
  for (int i = 0; i < 32; ++i) codes[i] = static_cast<uint8_t>(nearest_level(inverse * x[i]));
  pack_levels(codes, qs);
}

struct IQ4_NL {
  static constexpr const char* kName = "iq4_nl";
  static constexpr int64_t kValues = 32;
  static constexpr int64_t kBytes = 18;
  static constexpr float kMaxMagnitude = kMaxFp16;
  static constexpr IntegerForm kForm = {.bits = 4, .table = kLevels};
  static void split(const uint8_t* block, const IntegerRow& out) {
    unpack_levels(block + 2, out.codes);
    out.scales[0] = load_fp16(block);
  }
  static void decode(const uint8_t* block, float* out) { decode_levels(block + 2, load_fp16(block), out); }
  static void encode(const float* x, const float* importance, uint8_t* block) {
    float weights[kValues];
    if (importance == nullptr) {
      for (int i = 0; i < kValues; ++i) weights[i] = x[i] * x[i];
    } else {
      make_fit_weights(importance, kValues, weights);
    }
    const float scale = fit_levels(x, weights, kValues);
    store_fp16(scale, block);
    encode_levels(x, scale != 0.0F ? 1.0F / scale : 0.0F, block + 2);
  }
};

struct IQ4_XS {
  static constexpr const char* kName = "iq4_xs";
  static constexpr int64_t kValues = kSuperBlock;
  static constexpr int64_t kBytes = 136;
  static constexpr float kMaxMagnitude = kMaxFp16;
  static constexpr IntegerForm kForm = {.bits = 4, .scale_dtype = DType::kI8, .table = kLevels};
  static void read_scales(const uint8_t* block, float* scales) {
    const unsigned scales_h = load_le<uint16_t>(block + 2);
    for (int s = 0; s < 8; ++s) {
      const unsigned low = (block[4 + s / 2] >> (4 * (s % 2))) & 15U;
      const unsigned high = (scales_h >> (2 * s)) & 3U;
      scales[s] = static_cast<float>(static_cast<int>(low | (high << 4)) - 32);
    }
  }
  static void split(const uint8_t* block, const IntegerRow& out) {
    for (int s = 0; s < 8; ++s) unpack_levels(block + 8 + 16 * s, out.codes + 32 * s);
    read_scales(block, out.scales);
    out.outer_scales[0] = load_fp16(block);
  }
  static void decode(const uint8_t* block, float* out) {
    float scales[8];
    read_scales(block, scales);
    const float d = load_fp16(block);
    for (int s = 0; s < 8; ++s) decode_levels(block + 8 + 16 * s, d * scales[s], out + 32 * s);
  }
  static void encode(const float* x, const float* importance, uint8_t* block) {
    const SuperBlock chosen = choose(kShapeIQ4XS, x, importance);
    store_fp16(chosen.d, block);
    unsigned scales_h = 0;
    for (int s = 0; s < 8; s += 2) {
      const auto even = static_cast<unsigned>(chosen.scales[s] + 32);
      const auto odd = static_cast<unsigned>(chosen.scales[s + 1] + 32);
      block[4 + s / 2] = static_cast<uint8_t>((even & 15U) | ((odd & 15U) << 4));
      scales_h |= ((even >> 4) << (2 * s)) | ((odd >> 4) << (2 * s + 2));
    }
    const auto stored = static_cast<uint16_t>(scales_h);
    std::memcpy(block + 2, &stored, sizeof(stored));
    for (int s = 0; s < 8; ++s) pack_levels(chosen.codes + 32 * s, block + 8 + 16 * s);
  }
};

const BlockCodec<Q2_K> kQ2_KCodec;
const BlockCodec<Q3_K> kQ3_KCodec;
const BlockCodec<Q4_K> kQ4_KCodec;
const BlockCodec<Q5_K> kQ5_KCodec;
const BlockCodec<Q6_K> kQ6_KCodec;
const BlockCodec<IQ4_NL> kIQ4_NLCodec;
const BlockCodec<IQ4_XS> kIQ4_XSCodec;

}  // namespace

std::span<const Codec* const> gguf_k_codecs() {
  static constexpr std::array<const Codec*, 7> kCodecs = {&kQ2_KCodec, &kQ3_KCodec,   &kQ4_KCodec,  &kQ5_KCodec,
                                                          &kQ6_KCodec, &kIQ4_NLCodec, &kIQ4_XSCodec};
  return kCodecs;
}

}  // namespace mobilellm
