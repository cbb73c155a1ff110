// Sizes first, then one matrix after another, each by all threads.
#include "backend/cpu/panel_store.h"

#include <algorithm>
#include <vector>

#include "backend/cpu/panel_matrix.h"
#include "base/error.h"

namespace mobilellm {

PanelStore::PanelStore(const std::vector<Linear*>& linears, const WeightSource& source, ThreadPool& pool,
                       const std::function<bool(double)>& on_progress) {
  std::vector<PanelLayout> layouts(linears.size());
  size_t n_bytes = 0;
  for (size_t i = 0; i < linears.size(); ++i) {
    const auto layout = panel_layout(linears[i]->matrix());
    if (!layout) continue;
    layouts[i] = *layout;
    n_bytes += static_cast<size_t>(layout->n_panels()) * layout->panel_bytes;
  }
  memory_ = HugeMemory(n_bytes, "packed weights");
  std::vector<PackScratch> scratch(static_cast<size_t>(pool.n_threads()));
  size_t offset = 0;
  for (size_t i = 0; i < linears.size(); ++i) {
    const PanelLayout& layout = layouts[i];
    if (layout.rows == 0) continue;
    const StoredMatrix& matrix = linears[i]->matrix();
    std::byte* panels = memory_.data() + offset;
    constexpr int64_t kTaskPanels = 4;
    pool.run((layout.n_panels() + kTaskPanels - 1) / kTaskPanels, [&](int64_t task, int worker) {
      const int64_t begin = task * kTaskPanels;
      pack_panels(matrix, layout, begin, std::min(begin + kTaskPanels, layout.n_panels()), panels,
                  scratch[static_cast<size_t>(worker)]);
    });
    source.release(matrix.data);
    linears[i]->set_panels(layout, panels);
    offset += static_cast<size_t>(layout.n_panels()) * layout.panel_bytes;
    if (on_progress && !on_progress(static_cast<double>(offset) / static_cast<double>(n_bytes))) {
      fail(ErrorCode::kCancelled, "[cpu] loading was cancelled");
    }
  }
  if (n_bytes == 0 && on_progress && !on_progress(1.0)) fail(ErrorCode::kCancelled, "[cpu] loading was cancelled");
}

}  // namespace mobilellm
