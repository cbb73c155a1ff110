// Sliding windows of Qwen2 and Qwen3.
#include "model/arch/qwen_window.h"

#include <vector>

#include "model/arch/config_keys.h"

namespace mobilellm {

void read_qwen_windows(JsonObjectReader& config, ModelSpec& spec) {
  const bool is_on = config.get_bool("use_sliding_window", false);
  int64_t size = 0;
  // A null window switches sliding off as the flag does.
  if (is_on && (config.has("sliding_window") || !config.contains("sliding_window"))) {
    size = config.get_int("sliding_window", 1, kMaxContext, 4096);
  } else {
    config.ignore("sliding_window");
  }
  const std::vector<AttentionWindow> windows = read_layer_types(config, spec.n_layers(), size, 0);
  const int64_t first_sliding = config.get_int("max_window_layers", 0, kMaxLayers, 28);
  for (size_t i = 0; i < spec.layers.size(); ++i) {
    if (!windows.empty()) {
      spec.layers[i].window = windows[i];
    } else if (size > 0 && static_cast<int64_t>(i) >= first_sliding) {
      spec.layers[i].window = {AttentionWindow::Kind::kSliding, size};
    }
  }
}

}  // namespace mobilellm
