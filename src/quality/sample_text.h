/// A little text of our own to look at a model with when the user gives none: worked problems, prose and code, and
/// questions to answer. Too little to rank methods by.
#pragma once

#include <span>

namespace mobilellm {

/// About 900 tokens. Not part of any calibration.
extern const char* const kSampleText;
std::span<const char* const> sample_questions();

}  // namespace mobilellm
