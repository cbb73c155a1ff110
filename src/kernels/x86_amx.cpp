// Every kernel for one instruction set; flags come from the file's name (cmake/arch_flags.cmake).
// Only kernel headers are included, and everything but the table is in an anonymous namespace, so that no function
// compiled for this set can be taken by the rest of the program.
#include "kernels/isa/vec16_avx512.h"

// clang-format off: the order matters, each header uses the ones above it.
#include "kernels/isa/codes_avx512.h"
#include "kernels/isa/tile_amx.h"
#include "kernels/dot_rows.h"
#include "kernels/panel_product.h"
#include "kernels/elementwise.h"
#include "kernels/attention.h"
#include "kernels/training.h"
#include "kernels/affine_grid.h"
#include "kernels/isa/pairs_avx512.h"
#include "kernels/attention_i16.h"
// clang-format on

namespace mobilellm {

extern const KernelTable kAmxKernels;
const KernelTable kAmxKernels = {
#define MOBILELLM_KERNEL(name, Args) &name,
#include "kernels/kernels.inc"
#undef MOBILELLM_KERNEL
};

}  // namespace mobilellm
