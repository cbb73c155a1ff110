/// Loads the small model whose guesses speed up another one.
#pragma once

#include <memory>
#include <string>

#include "backend/backend.h"
#include "model/loader.h"

namespace mobilellm {

/// A runner of the model at `path`, made to guess for `model`. Throws kInvalidArgument when their vocabularies differ,
/// naming the first difference, and what the loaders throw.
std::unique_ptr<Runner> load_draft_model(const std::string& path, const LoadedModel& model, const std::string& backend,
                                         const RunnerOptions& options);

/// The check alone.
void check_same_vocabulary(const LoadedModel& draft_model, const LoadedModel& model);

}  // namespace mobilellm
