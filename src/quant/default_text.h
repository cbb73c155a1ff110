/// Text to calibrate with when the user gives none: written for this project, in the manner of what reasoning models
/// read and write.
#pragma once

#include <string>

namespace mobilellm {

/// Word problems with worked solutions, algebra, explained code, prose and dialogues, mixed: about 130 kB, the same on
/// every call.
std::string default_calibration_text();

}  // namespace mobilellm
