/// A stored matrix of integers repacked for the panel kernels (kernels/panels.h).
#pragma once

#include <cstddef>
#include <optional>
#include <vector>

#include "codec/codec.h"
#include "kernels/panels.h"

namespace mobilellm {

/// The layout of `matrix` in panels; nothing when its format is not made of integers.
std::optional<PanelLayout> panel_layout(const StoredMatrix& matrix);

/// Buffers of one worker for pack_panels().
struct PackScratch {
  std::vector<uint8_t> codes;
  std::vector<float> scales;
  std::vector<float> biases;
  std::vector<float> factors;
  std::vector<float> bias_factors;
};

/// Writes panels [begin, end) of `matrix` to `panels` (panel 0, zeroed, at a multiple of 64 bytes).
void pack_panels(const StoredMatrix& matrix, const PanelLayout& layout, int64_t begin, int64_t end, std::byte* panels,
                 PackScratch& scratch);

}  // namespace mobilellm
