// Model over the text pipeline.
#include "mobilellm/model.h"

#include <atomic>
#include <mutex>
#include <thread>
#include <utility>

#include "api/conversion.h"
#include "api/handles.h"
#include "base/error.h"
#include "pipeline/pipeline.h"

namespace mobilellm {

struct Model::State {
  std::shared_ptr<TextModel> text_model;  // Shared with the tokenizers and chat formats that were handed out.
  ModelInfo info;
  std::mutex mutex;  // One generating call at a time.
  // The thread of that call, to refuse a call from its own callback, which would wait for itself.
  std::atomic<std::thread::id> generating_thread;
};

Model::Model(std::unique_ptr<State> state) : state_(std::move(state)) {}
Model::~Model() = default;
Model::Model(Model&& other) noexcept = default;
Model& Model::operator=(Model&& other) noexcept = default;

Model Model::load(const std::string& path, const ModelOptions& options) {
  check_path(path);
  auto state = std::make_unique<State>();
  state->text_model = TextModel::load(path, to_internal(options));
  state->info = describe(*state->text_model);
  return Model(std::move(state));
}

const ModelInfo& Model::info() const { return state_->info; }

TextTokenizer Model::tokenizer() const {
  auto state = std::make_shared<TextTokenizer::State>();
  state->tokenizer = std::shared_ptr<const Tokenizer>(state_->text_model, &state_->text_model->tokenizer());
  return TextTokenizer(std::move(state));
}

ChatFormat Model::chat_format() const {
  const ChatTemplate* chat_template = state_->text_model->chat_template();
  if (chat_template == nullptr) {
    fail(ErrorCode::kNotFound, "[template] {} has no chat template; add chat_template.jinja", state_->info.path);
  }
  auto state = std::make_shared<ChatFormat::State>();
  state->chat_template = std::shared_ptr<const ChatTemplate>(state_->text_model, chat_template);
  state->bos_token = state_->text_model->bos_token();
  state->eos_token = state_->text_model->eos_token();
  return ChatFormat(std::move(state));
}

SamplingOptions Model::recommended_sampling() const { return to_public(state_->text_model->defaults()); }

PromptPreview Model::preview(const GenerationRequest& request) const {
  Prompt prompt = state_->text_model->build_prompt(to_internal(request));
  return {std::move(prompt.text), std::move(prompt.ids), prompt.used_template};
}

GenerationResult Model::generate(const GenerationRequest& request, const PieceCallback& on_piece) {
  return std::move(generate_all(std::span(&request, 1), on_piece).front());
}

std::vector<GenerationResult> Model::generate_all(std::span<const GenerationRequest> requests,
                                                  const PieceCallback& on_piece) {
  State& state = *state_;
  if (state.generating_thread.load() == std::this_thread::get_id()) {
    fail(ErrorCode::kInvalidArgument, "[api] generate was called from a callback of the same model");
  }
  std::vector<GenerateRequest> internal;
  internal.reserve(requests.size());
  for (const GenerationRequest& request : requests) internal.push_back(to_internal(request));
  TextCallback on_text;
  if (on_piece) {
    on_text = [&on_piece](const TextPiece& piece) {
      return on_piece({piece.index, piece.channel == TextChannel::kReasoning, piece.text});
    };
  }

  const std::lock_guard lock(state.mutex);
  struct ThreadMark {
    explicit ThreadMark(State& s) : state(s) { state.generating_thread.store(std::this_thread::get_id()); }
    ~ThreadMark() { state.generating_thread.store({}); }
    State& state;
  } mark(state);
  std::vector<GenerationResult> results;
  results.reserve(requests.size());
  for (GenerateResult& result : state.text_model->generate_all(internal, on_text)) {
    results.push_back(to_public(std::move(result)));
  }
  return results;
}

const char* to_string(GenerationEnd end) noexcept {
  switch (end) {
    case GenerationEnd::kStop:
      return "stop";
    case GenerationEnd::kLength:
      return "length";
    case GenerationEnd::kCancelled:
      return "cancelled";
    case GenerationEnd::kLoop:
      return "loop";
  }
  return "unknown";
}

const char* to_string(GenerationCause cause) noexcept {
  switch (cause) {
    case GenerationCause::kNone:
      return "none";
    case GenerationCause::kEos:
      return "eos";
    case GenerationCause::kStopString:
      return "stop_string";
    case GenerationCause::kBoxed:
      return "boxed";
    case GenerationCause::kThinkingBudget:
      return "thinking_budget";
    case GenerationCause::kMaxTokens:
      return "max_tokens";
    case GenerationCause::kContextEnd:
      return "context_end";
    case GenerationCause::kAnswerBound:
      return "answer_bound";
    case GenerationCause::kLoop:
      return "loop";
  }
  return "unknown";
}

}  // namespace mobilellm
