// From an instruction set to its table.
#include "base/error.h"
#include "kernels/kernels.h"

namespace mobilellm {

extern const KernelTable kScalarKernels;
#if defined(__x86_64__)
extern const KernelTable kAvx2Kernels;
extern const KernelTable kAvx2VnniKernels;
extern const KernelTable kAvx512Kernels;
extern const KernelTable kAmxKernels;
#elif defined(__aarch64__)
extern const KernelTable kNeonKernels;
extern const KernelTable kNeonDotprodKernels;
extern const KernelTable kNeonI8mmKernels;
#endif

const KernelTable& kernel_table(Isa isa) {
  switch (isa) {
    case Isa::kScalar:
      return kScalarKernels;
#if defined(__x86_64__)
    case Isa::kAvx2:
      return kAvx2Kernels;
    case Isa::kAvx2Vnni:
      return kAvx2VnniKernels;
    case Isa::kAvx512:
      return kAvx512Kernels;
    case Isa::kAmx:
      return kAmxKernels;
#elif defined(__aarch64__)
    case Isa::kNeon:
      return kNeonKernels;
    case Isa::kNeonDotprod:
      return kNeonDotprodKernels;
    case Isa::kNeonI8mm:
      return kNeonI8mmKernels;
#endif
    default:
      break;
  }
  fail(ErrorCode::kUnsupported, "[kernels] this build has no {} kernels", isa_name(isa));
}

}  // namespace mobilellm
