// Guesses are token ids: both models must mean the same by each of them.
#include "pipeline/draft_model.h"

#include <algorithm>

#include "backend/registry.h"
#include "base/error.h"

namespace mobilellm {

void check_same_vocabulary(const LoadedModel& draft_model, const LoadedModel& model) {
  if (draft_model.spec.vocab_size != model.spec.vocab_size) {
    fail(ErrorCode::kInvalidArgument,
         "[draft model] vocabulary: got {} tokens, expected {} ({}); it must be a model with the same tokenizer",
         draft_model.spec.vocab_size, model.spec.vocab_size, draft_model.path);
  }
  // Models without a tokenizer work on ids alone.
  if (draft_model.tokenizer == nullptr || model.tokenizer == nullptr) return;
  const size_t n_tokens = std::max(draft_model.tokenizer->vocab_size(), model.tokenizer->vocab_size());
  for (size_t i = 0; i < n_tokens; ++i) {
    const auto id = static_cast<TokenId>(i);
    const std::string got = draft_model.tokenizer->token_text(id);
    const std::string expected = model.tokenizer->token_text(id);
    if (got != expected) {
      fail(ErrorCode::kInvalidArgument,
           "[draft model] token {}: got '{}', expected '{}' ({}); it must be a model with the same tokenizer", id, got,
           expected, draft_model.path);
    }
  }
}

std::unique_ptr<Runner> load_draft_model(const std::string& path, const LoadedModel& model, const std::string& backend,
                                         const RunnerOptions& options) {
  LoadedModel draft_model = load_model(path);
  check_same_vocabulary(draft_model, model);
  return create_runner(backend, draft_model.spec, std::move(draft_model.weights), options);
}

}  // namespace mobilellm
