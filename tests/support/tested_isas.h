/// The instruction sets that tests compare with the scalar kernels.
#pragma once

#include <cstdlib>
#include <vector>

#include "base/cpu_features.h"

namespace mobilellm {

/// Every supported one. kAmx has run on emulated tiles only, so it takes part when MOBILELLM_TEST_AMX is set: a fault
/// there must not stop users whose default is another set.
inline std::vector<Isa> tested_isas() {
  std::vector<Isa> isas = supported_isas();
  if (isas.back() == Isa::kAmx && std::getenv("MOBILELLM_TEST_AMX") == nullptr) isas.pop_back();
  return isas;
}

}  // namespace mobilellm
