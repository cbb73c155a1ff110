/// What this program was built from and with.
#pragma once

#include <string>

namespace mobilellm::cli {

std::string build_commit();    ///< Short commit of the sources, "+" when they were changed; "" outside a repository.
std::string build_compiler();  ///< "gcc 12.2.0"
std::string build_text();      ///< "0.1.0 (1a2b3c4, gcc 12.2.0)"
/// build_text() and, where the system tells, the time of this very program file: for work that no other build may
/// continue.
std::string build_identity();

}  // namespace mobilellm::cli
