// From an instruction set to its table.
#include "base/error.h"
#include "kernels/kernels.h"

namespace mobilellm {

extern const KernelTable kScalarKernels;
#if defined(__x86_64__)
extern const KernelTable kAvx2Kernels;
extern const KernelTable kAvx2VnniKernels;
extern const KernelTable kAvx512Kernels;
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
#else
    default:
      break;
#endif
  }
  fail(ErrorCode::kUnsupported, "[kernels] this build has no {} kernels", isa_name(isa));
}

}  // namespace mobilellm
