// Detection through the compiler's cpuid support.
#include "base/cpu_features.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include <cstdlib>

#include "base/error.h"

namespace mobilellm {
namespace {

constexpr Isa kAll[] = {Isa::kScalar, Isa::kAvx2, Isa::kAvx2Vnni, Isa::kAvx512};

#if defined(__x86_64__)
// gcc 12 has no name for it. The operating system's part is covered by AVX2's.
bool has_avx_vnni() {
  unsigned a = 0;
  unsigned b = 0;
  unsigned c = 0;
  unsigned d = 0;
  return __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0 && (a >> 4 & 1U) != 0;
}
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
  }
  return "unknown";
}

bool is_isa_supported(Isa isa) {
  if (isa == Isa::kScalar) return true;
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool has_avx2 =
      __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
  if (isa == Isa::kAvx2) return has_avx2;
  if (isa == Isa::kAvx2Vnni) return has_avx2 && has_avx_vnni();
  return has_avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vnni");
#else
  return false;
#endif
}

std::vector<Isa> supported_isas() {
  std::vector<Isa> isas;
  for (const Isa isa : kAll) {
    if (is_isa_supported(isa)) isas.push_back(isa);
  }
  return isas;
}

Isa select_isa() {
  const char* wanted = std::getenv("MOBILELLM_ISA");
  if (wanted == nullptr || *wanted == '\0') return supported_isas().back();
  for (const Isa isa : kAll) {
    if (std::string_view(wanted) != isa_name(isa)) continue;
    if (!is_isa_supported(isa)) {
      fail(ErrorCode::kUnsupported, "[cpu] MOBILELLM_ISA={}: this processor does not have it", wanted);
    }
    return isa;
  }
  fail(ErrorCode::kInvalidArgument, "[cpu] MOBILELLM_ISA={}: expected scalar, avx2, avx2_vnni or avx512", wanted);
}

}  // namespace mobilellm
