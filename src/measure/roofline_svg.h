/// A picture of speed tests against the machine's limits.
#pragma once

#include <string>
#include <vector>

#include "measure/report.h"

namespace mobilellm {

/// A self-contained SVG: operations per byte against operations per second, both logarithmic, with the roofs that
/// bandwidth and arithmetic set and one labelled point per row. The subject must have limits and rows must not be
/// empty.
std::string roofline_svg(const BenchSubject& subject, const std::vector<BenchRow>& rows);

}  // namespace mobilellm
