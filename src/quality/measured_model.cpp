// Opening models to measure them, and the text they share.
#include "quality/measured_model.h"

#include <utility>

#include "backend/registry.h"
#include "base/error.h"

namespace mobilellm {

double MeasuredModel::bits_per_weight() const {
  return n_parameters == 0 ? 0.0 : static_cast<double>(n_bytes) * 8 / static_cast<double>(n_parameters);
}

MeasuredModel open_measured_model(const std::string& path, const RunnerOptions& options) {
  LoadedModel model = load_model(path);
  MeasuredModel measured;
  measured.path = path;
  measured.n_bytes = model.weights.source->total_bytes();
  measured.n_parameters = parameter_count(model.spec);
  measured.text = {model.tokenizer, model.chat_template, model.bos_token, model.eos_token};
  measured.runner = create_runner("cpu", model.spec, std::move(model.weights), options);
  return measured;
}

std::vector<TextSet> read_text_sets(const MeasuredModel& a, const MeasuredModel* b,
                                    const std::vector<std::string>& paths, const TextSetOptions& options) {
  std::vector<TextSet> sets;
  for (const std::string& path : paths) {
    sets.push_back(read_text_set(path, a.text, options));
    if (b == nullptr || b->text.tokenizer == nullptr) continue;
    LoadedText text = a.text;
    text.tokenizer = b->text.tokenizer;
    if (read_text_set(path, text, options).chunks != sets.back().chunks) {
      fail(
          ErrorCode::kInvalidArgument,
          "[quality] {}: {} and {} turn the text into different tokens; only models with one tokenizer can be compared",
          path, a.path, b->path);
    }
  }
  return sets;
}

}  // namespace mobilellm
