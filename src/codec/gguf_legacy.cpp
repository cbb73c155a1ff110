// GGUF's first block types: 32 values that share one scale d (fp16), Qx_1 also a minimum m (fp16).
//
// The low 4 bits of value i lie in byte i % 16 of qs: values 0..15 in the low nibbles, 16..31 in the high ones. The
// fifth bit of value i is bit i of the 32-bit word qh.
//   Q4_0: d qs[16]          (q - 8) * d        Q4_1: d m qs[16]          q * d + m
//   Q5_0: d qh[4] qs[16]    (q - 16) * d       Q5_1: d m qh[4] qs[16]    q * d + m
//   Q8_0: d qs[32]          q * d, q signed
#include <array>

#include "codec/families.h"
#include "tensor/float_convert.h"

namespace mobilellm {
namespace {

constexpr int kHalf = 16;

void unpack_nibbles(const uint8_t* qs, uint8_t* values) {
  for (int i = 0; i < kHalf; ++i) {
    values[i] = qs[i] & 15U;
    values[i + kHalf] = static_cast<uint8_t>(qs[i] >> 4);
  }
}

// Adds 16 to every value whose bit in qh is set.
void add_fifth_bits(const uint8_t* qh, uint8_t* values) {
  constexpr uint64_t kSpread = 0x8040201008040201U;  // Byte k keeps bit k.
  for (int i = 0; i < 4; ++i) {
    // Eight copies of the byte, of which byte k keeps bit k; +0x7f.. carries any set bit to bit 7.
    const uint64_t copies = qh[i] * uint64_t{0x0101010101010101U} & kSpread;
    const uint64_t top = ((copies | (copies + 0x7F7F7F7F7F7F7F7FU)) >> 3) & 0x1010101010101010U;
    uint64_t word = load_le<uint64_t>(values + 8 * i) | top;
    std::memcpy(values + 8 * i, &word, sizeof(word));
  }
}

void scale_centered(const uint8_t* values, int center, float d, float* out) {
  for (int i = 0; i < 2 * kHalf; ++i) out[i] = static_cast<float>(values[i] - center) * d;
}

void scale_and_add(const uint8_t* values, float d, float m, float* out) {
  for (int i = 0; i < 2 * kHalf; ++i) out[i] = static_cast<float>(values[i]) * d + m;
}

float load_fp16(const uint8_t* source) { return fp16_to_float(load_le<uint16_t>(source)); }

struct Q4_0 {
  static constexpr const char* kName = "q4_0";
  static constexpr int64_t kValues = 32;
  static constexpr int64_t kBytes = 18;
  static void decode(const uint8_t* block, float* out) {
    uint8_t values[kValues];
    unpack_nibbles(block + 2, values);
    scale_centered(values, 8, load_fp16(block), out);
  }
};

struct Q4_1 {
  static constexpr const char* kName = "q4_1";
  static constexpr int64_t kValues = 32;
  static constexpr int64_t kBytes = 20;
  static void decode(const uint8_t* block, float* out) {
    uint8_t values[kValues];
    unpack_nibbles(block + 4, values);
    scale_and_add(values, load_fp16(block), load_fp16(block + 2), out);
  }
};

struct Q5_0 {
  static constexpr const char* kName = "q5_0";
  static constexpr int64_t kValues = 32;
  static constexpr int64_t kBytes = 22;
  static void decode(const uint8_t* block, float* out) {
    uint8_t values[kValues];
    unpack_nibbles(block + 6, values);
    add_fifth_bits(block + 2, values);
    scale_centered(values, 16, load_fp16(block), out);
  }
};

struct Q5_1 {
  static constexpr const char* kName = "q5_1";
  static constexpr int64_t kValues = 32;
  static constexpr int64_t kBytes = 24;
  static void decode(const uint8_t* block, float* out) {
    uint8_t values[kValues];
    unpack_nibbles(block + 8, values);
    add_fifth_bits(block + 4, values);
    scale_and_add(values, load_fp16(block), load_fp16(block + 2), out);
  }
};

struct Q8_0 {
  static constexpr const char* kName = "q8_0";
  static constexpr int64_t kValues = 32;
  static constexpr int64_t kBytes = 34;
  static void decode(const uint8_t* block, float* out) {
    const float d = load_fp16(block);
    for (int i = 0; i < kValues; ++i) out[i] = static_cast<float>(static_cast<int8_t>(block[2 + i])) * d;
  }
};

const BlockCodec<Q4_0> kQ4_0Codec;
const BlockCodec<Q4_1> kQ4_1Codec;
const BlockCodec<Q5_0> kQ5_0Codec;
const BlockCodec<Q5_1> kQ5_1Codec;
const BlockCodec<Q8_0> kQ8_0Codec;

}  // namespace

std::span<const Codec* const> gguf_legacy_codecs() {
  static constexpr std::array<const Codec*, 5> kCodecs = {&kQ4_0Codec, &kQ4_1Codec, &kQ5_0Codec, &kQ5_1Codec,
                                                          &kQ8_0Codec};
  return kCodecs;
}

}  // namespace mobilellm
