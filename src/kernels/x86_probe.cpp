// Probes of x86-64 processors. Each function names the instructions that it needs, so the file itself is built for the
// baseline.
#include <cpuid.h>
#include <immintrin.h>

#include <array>

#include "kernels/probe.h"

namespace mobilellm {
namespace {

// Independent sums, enough to cover the latency of an instruction that starts twice a cycle.
constexpr int kChains = 16;
constexpr int kYmmChains = 12;  // Of 16 registers.

struct CpuidRegisters {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
};

CpuidRegisters cpuid_7(unsigned part) {
  CpuidRegisters r;
  __get_cpuid_count(7, part, &r.eax, &r.ebx, &r.ecx, &r.edx);
  return r;
}
bool has_bit(unsigned word, int bit) { return (word >> bit & 1U) != 0; }

bool has_avx_vnni() { return is_isa_supported(Isa::kAvx2Vnni); }
bool has_avx2() { return is_isa_supported(Isa::kAvx2); }
bool has_avx512() { return is_isa_supported(Isa::kAvx512); }
bool has_avx512_bf16() { return has_avx512() && has_bit(cpuid_7(1).eax, 5); }

typedef float Ymm __attribute__((vector_size(32)));
typedef float Zmm __attribute__((vector_size(64)));

// A loop over one instruction on `chains` sums. Operands: %0 the sum, %1 a register to spoil, %2 the factor, whose
// bytes are 63: f32 and bf16 numbers of about 0.75. Written as asm, since compilers differ in how they name AVX-VNNI's
// form of vpdpbusd, and so that no turn can be left out.
#define MOBILELLM_PROBE(name, features, Vector, chains, instruction)         \
  __attribute__((target(features))) void name(int64_t n_turns) noexcept {    \
    Vector sums[chains] = {};                                                \
    Vector spoiled;                                                          \
    Vector factor;                                                           \
    __builtin_memset(&factor, 63, sizeof(factor));                           \
    for (int64_t turn = 0; turn < n_turns; ++turn) {                         \
      _Pragma("GCC unroll 16") for (Vector & sum : sums) {                   \
        asm volatile(instruction : "+v"(sum), "=&v"(spoiled) : "v"(factor)); \
      }                                                                      \
    }                                                                        \
  }

MOBILELLM_PROBE(f32_avx2, "avx2,fma", Ymm, kYmmChains, "vfmadd231ps %2, %2, %0")
MOBILELLM_PROBE(int8_avx2, "avx2", Ymm, kYmmChains, "vpmaddubsw %2, %2, %1\n\tvpmaddwd %2, %1, %1\n\tvpaddd %1, %0, %0")
MOBILELLM_PROBE(int8_avx_vnni, "avx2", Ymm, kYmmChains, "%{vex%} vpdpbusd %2, %2, %0")
MOBILELLM_PROBE(f32_avx512, "avx512f", Zmm, kChains, "vfmadd231ps %2, %2, %0")
MOBILELLM_PROBE(bf16_avx512, "avx512f", Zmm, kChains, "vdpbf16ps %2, %2, %0")
MOBILELLM_PROBE(int8_avx512, "avx512f", Zmm, kChains, "vpdpbusd %2, %2, %0")
#undef MOBILELLM_PROBE

bool has_amx_int8() { return is_isa_supported(Isa::kAmx); }
bool has_amx_bf16() { return has_amx_int8() && has_bit(cpuid_7(0).edx, 22); }

struct alignas(64) TileConfig {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};
static_assert(sizeof(TileConfig) == 64);

// Eight full tiles. The memory clobber keeps the stores that fill the configuration: gcc 12 believes that only its
// first bytes are read.
__attribute__((target("amx-tile"))) void set_up_tiles() {
  const TileConfig config;
  asm volatile("" ::"r"(&config) : "memory");
  _tile_loadconfig(&config);
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  _tile_zero(4);
  _tile_zero(5);
  _tile_zero(6);
  _tile_zero(7);
}

__attribute__((target("amx-tile,amx-int8"))) void int8_amx(int64_t n_turns) noexcept {
  set_up_tiles();
  for (int64_t turn = 0; turn < n_turns; ++turn) {
    _tile_dpbssd(0, 4, 6);
    _tile_dpbssd(1, 4, 7);
    _tile_dpbssd(2, 5, 6);
    _tile_dpbssd(3, 5, 7);
  }
  _tile_release();
}

__attribute__((target("amx-tile,amx-bf16"))) void bf16_amx(int64_t n_turns) noexcept {
  set_up_tiles();
  for (int64_t turn = 0; turn < n_turns; ++turn) {
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
  _tile_release();
}

constexpr int64_t kTileTurn = int64_t{4} * 16 * 16 * 2;  // Tiles, rows, columns; times the length of a product.

constexpr ComputeProbe kProbes[] = {
    {"f32", "vfmadd231ps ymm", Isa::kAvx2, has_avx2, int64_t{kYmmChains} * 8 * 2, f32_avx2},
    {"int8", "vpmaddubsw ymm", Isa::kAvx2, has_avx2, int64_t{kYmmChains} * 32 * 2, int8_avx2},
    {"int8", "vpdpbusd ymm", Isa::kAvx2Vnni, has_avx_vnni, int64_t{kYmmChains} * 32 * 2, int8_avx_vnni},
    {"f32", "vfmadd231ps zmm", Isa::kAvx512, has_avx512, int64_t{kChains} * 16 * 2, f32_avx512},
    {"bf16", "vdpbf16ps zmm", Isa::kAvx512, has_avx512_bf16, int64_t{kChains} * 32 * 2, bf16_avx512},
    {"int8", "vpdpbusd zmm", Isa::kAvx512, has_avx512, int64_t{kChains} * 64 * 2, int8_avx512},
    {"bf16", "tdpbf16ps", Isa::kAmx, has_amx_bf16, kTileTurn * 32, bf16_amx},
    {"int8", "tdpbssd", Isa::kAmx, has_amx_int8, kTileTurn * 64, int8_amx},
};

__attribute__((target("avx2"))) uint64_t read_avx2(const std::byte* data, size_t n_bytes) noexcept {
  __m256i sums[8];
  for (__m256i& sum : sums) sum = _mm256_setzero_si256();
  for (size_t i = 0; i < n_bytes; i += 256) {
#pragma GCC unroll 8
    for (size_t k = 0; k < 8; ++k) {
      sums[k] = _mm256_xor_si256(sums[k], _mm256_loadu_si256(reinterpret_cast<const __m256i*>(data + i + 32 * k)));
    }
  }
  for (size_t k = 1; k < 8; ++k) sums[0] = _mm256_xor_si256(sums[0], sums[k]);
  return static_cast<uint64_t>(_mm256_extract_epi64(sums[0], 0));
}

__attribute__((target("avx512f"))) uint64_t read_avx512(const std::byte* data, size_t n_bytes) noexcept {
  __m512i sums[8];
  for (__m512i& sum : sums) sum = _mm512_setzero_si512();
  for (size_t i = 0; i < n_bytes; i += 512) {
#pragma GCC unroll 8
    for (size_t k = 0; k < 8; ++k) sums[k] = _mm512_xor_si512(sums[k], _mm512_loadu_si512(data + i + 64 * k));
  }
  for (size_t k = 1; k < 8; ++k) sums[0] = _mm512_xor_si512(sums[0], sums[k]);
  alignas(64) uint64_t words[8];
  _mm512_store_si512(words, sums[0]);
  return words[0];
}

uint64_t read_sse2(const std::byte* data, size_t n_bytes) noexcept {
  __m128i sum = _mm_setzero_si128();
  for (size_t i = 0; i < n_bytes; i += 16) {
    sum = _mm_xor_si128(sum, _mm_loadu_si128(reinterpret_cast<const __m128i*>(data + i)));
  }
  return static_cast<uint64_t>(_mm_cvtsi128_si64(sum));
}

}  // namespace

std::span<const ComputeProbe> processor_probes();
std::span<const ComputeProbe> processor_probes() { return kProbes; }

uint64_t read_once_x86(const std::byte* data, size_t n_bytes) noexcept;
uint64_t read_once_x86(const std::byte* data, size_t n_bytes) noexcept {
  static const auto read = has_avx512() ? read_avx512 : has_avx2() ? read_avx2 : read_sse2;
  return read(data, n_bytes);
}

}  // namespace mobilellm
