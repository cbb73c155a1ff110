/// Which instruction sets this processor runs, and which one the kernels should use.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace mobilellm {

/// Kernel families, from the slowest. A build holds those of its processor family.
enum class Isa { kScalar, kAvx2, kAvx2Vnni, kAvx512, kAmx, kNeon, kNeonDotprod, kNeonI8mm };

/// "scalar", "avx2", "avx2_vnni", "avx512", "amx", "neon", "neon_dotprod", "neon_i8mm"
const char* isa_name(Isa isa);
bool is_isa_supported(Isa isa);     ///< By this processor and operating system.
std::vector<Isa> supported_isas();  ///< In rising order; kScalar always.
/// The set that is used unless another one is asked for: the best supported one but kAmx, whose speed has not been
/// measured yet.
Isa default_isa();
/// default_isa(), or the set that the environment variable MOBILELLM_ISA names.
/// Throws kInvalidArgument for an unknown name and kUnsupported for a set that this processor lacks.
Isa select_isa();

}  // namespace mobilellm
