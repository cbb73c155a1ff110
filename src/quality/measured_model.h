/// A model opened to be measured: its tokenizer, a runner, its size.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "model/loader.h"
#include "quality/text_set.h"

namespace mobilellm {

struct MeasuredModel {
  std::string path;
  LoadedText text;
  std::unique_ptr<Runner> runner;
  uint64_t n_bytes = 0;      ///< Of all tensors in the files.
  int64_t n_parameters = 0;  ///< A tied table once.

  double bits_per_weight() const;
};

/// Throws what load_model() throws.
MeasuredModel open_measured_model(const std::string& path, const RunnerOptions& options);

/// Text sets of several files, as A reads them. `b` may be null. Throws as read_text_set() does, and kInvalidArgument
/// when B has a tokenizer and turns the text into other ids.
std::vector<TextSet> read_text_sets(const MeasuredModel& a, const MeasuredModel* b,
                                    const std::vector<std::string>& paths, const TextSetOptions& options);

}  // namespace mobilellm
