// Detection through cpuid on x86-64, and through the operating system on ARM.
#include "base/cpu_features.h"

#if defined(__x86_64__)
#include <cpuid.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#elif defined(__aarch64__) && defined(__APPLE__)
#include <sys/sysctl.h>
#endif

#include <cstdlib>

#include "base/error.h"

namespace mobilellm {
namespace {

constexpr Isa kAll[] = {Isa::kScalar, Isa::kAvx2, Isa::kAvx2Vnni,    Isa::kAvx512,
                        Isa::kAmx,    Isa::kNeon, Isa::kNeonDotprod, Isa::kNeonI8mm};

#if defined(__x86_64__)
struct CpuidRegisters {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
};

CpuidRegisters cpuid(unsigned leaf, unsigned part) {
  CpuidRegisters r;
  __get_cpuid_count(leaf, part, &r.eax, &r.ebx, &r.ecx, &r.edx);
  return r;
}
bool has_bit(unsigned word, int bit) { return (word >> bit & 1U) != 0; }

// gcc 12 has no name for it. The operating system's part is covered by AVX2's.
bool has_avx_vnni() { return has_bit(cpuid(7, 1).eax, 4); }

// The state of the tiles is large, so Linux saves it only for processes that ask once. Refused where the kernel is too
// old, where it is switched off, and where an alternative signal stack is too small for it.
bool request_tiles() {
#if defined(__linux__)
  constexpr long kRequestPermission = 0x1023;  // ARCH_REQ_XCOMP_PERM
  constexpr long kTileData = 18;
  return ::syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
  return false;
#endif
}

// AMX with products of bytes: the processor, tiles of the size that the kernels expect (8 of 16 rows of 64 bytes), the
// operating system (both parts of the state in XCR0), and its permission.
bool has_amx() {
  const unsigned features = cpuid(7, 0).edx;
  if (!has_bit(features, 24) || !has_bit(features, 25) || !has_bit(cpuid(1, 0).ecx, 27)) return false;
  const CpuidRegisters palette = cpuid(0x1D, 1);
  if (palette.ebx != (8U << 16 | 64U) || (palette.ecx & 0xFFFFU) != 16) return false;
  unsigned low = 0;
  unsigned high = 0;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (low >> 17 & 3U) == 3U && request_tiles();
}

bool is_supported_here(Isa isa) {
  __builtin_cpu_init();
  const bool has_avx2 =
      __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
  switch (isa) {
    case Isa::kAvx2:
      return has_avx2;
    case Isa::kAvx2Vnni:
      return has_avx2 && has_avx_vnni();
    case Isa::kAvx512:
      return has_avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
             __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
             __builtin_cpu_supports("avx512vnni");
    case Isa::kAmx: {
      static const bool has_tiles = is_supported_here(Isa::kAvx512) && has_amx();
      return has_tiles;
    }
    default:
      return false;
  }
}
#elif defined(__aarch64__)
#if defined(__APPLE__)
bool has_apple_feature(const char* name) {
  int value = 0;
  size_t size = sizeof(value);
  return ::sysctlbyname(name, &value, &size, nullptr, 0) == 0 && value != 0;
}
#endif
bool has_dotprod() {
#if defined(__linux__)
  return (::getauxval(AT_HWCAP) >> 20 & 1U) != 0;  // HWCAP_ASIMDDP
#elif defined(__APPLE__)
  return has_apple_feature("hw.optional.arm.FEAT_DotProd");
#else
  return false;
#endif
}
bool has_i8mm() {
#if defined(__linux__)
  return (::getauxval(AT_HWCAP2) >> 13 & 1U) != 0;  // HWCAP2_I8MM
#elif defined(__APPLE__)
  return has_apple_feature("hw.optional.arm.FEAT_I8MM");
#else
  return false;
#endif
}

bool is_supported_here(Isa isa) {
  switch (isa) {
    case Isa::kNeon:
      return true;
    case Isa::kNeonDotprod:
      return has_dotprod();
    case Isa::kNeonI8mm:
      return has_dotprod() && has_i8mm();
    default:
      return false;
  }
}
#else
bool is_supported_here(Isa /*isa*/) { return false; }
#endif

}  // namespace

const char* isa_name(Isa isa) {
  switch (isa) {
    case Isa::kScalar:
      return "scalar";
    case Isa::kAvx2:
      return "avx2";
    case Isa::kAvx2Vnni:
      return "avx2_vnni";
    case Isa::kAvx512:
      return "avx512";
    case Isa::kAmx:
      return "amx";
    case Isa::kNeon:
      return "neon";
    case Isa::kNeonDotprod:
      return "neon_dotprod";
    case Isa::kNeonI8mm:
      return "neon_i8mm";
  }
  return "unknown";
}

bool is_isa_supported(Isa isa) { return isa == Isa::kScalar || is_supported_here(isa); }

std::vector<Isa> supported_isas() {
  std::vector<Isa> isas;
  for (const Isa isa : kAll) {
    if (is_isa_supported(isa)) isas.push_back(isa);
  }
  return isas;
}

Isa default_isa() {
  const std::vector<Isa> isas = supported_isas();
  return isas.back() == Isa::kAmx ? Isa::kAvx512 : isas.back();
}

Isa select_isa() {
  const char* wanted = std::getenv("MOBILELLM_ISA");
  if (wanted == nullptr || *wanted == '\0') return default_isa();
  for (const Isa isa : kAll) {
    if (std::string_view(wanted) != isa_name(isa)) continue;
    if (!is_isa_supported(isa)) {
      fail(ErrorCode::kUnsupported, "[cpu] MOBILELLM_ISA={}: this processor does not have it", wanted);
    }
    return isa;
  }
  std::string names;
  for (const Isa isa : kAll) names += (names.empty() ? "" : ", ") + std::string(isa_name(isa));
  fail(ErrorCode::kInvalidArgument, "[cpu] MOBILELLM_ISA={}: expected one of {}", wanted, names);
}

}  // namespace mobilellm
