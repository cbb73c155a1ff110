/// A loaded model: facts, tokenizer, chat format and generation.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "mobilellm/chat.h"
#include "mobilellm/error.h"
#include "mobilellm/generation.h"
#include "mobilellm/tokenizer.h"

namespace mobilellm {

/// How tokens are guessed ahead to save time. Results do not depend on it.
enum class Speculation {
  kOff = 0,
  kLookup = 1,  ///< From the text so far and from other samples of the same prompt.
  kAuto = 2,    ///< The same, and by ModelOptions::draft_model if there is one.
};

struct ModelOptions {
  int n_threads = 0;          ///< 0 .. 1024; 0 = every core this process may use. Results do not depend on it.
  int64_t context = 0;        ///< Most tokens of one sequence, prompt included; 0 = the model's maximum.
  int64_t max_kv_tokens = 0;  ///< Bound on cached tokens over all requests of a call; 0 = none but memory.
  /// Multiply quantized weights with f32 activations, as the reference implementations do, instead of activations
  /// rounded to 8 bits per 64 columns. Slower; for comparisons.
  bool exact = false;
  int prefill_chunk = 256;  ///< Prompt tokens computed per step, 1 or more. Results do not depend on it.
  /// Called with progress in [0, 1] while loading; return false to give up, and load throws kCancelled.
  std::function<bool(double)> on_progress = {};
  Speculation speculation = Speculation::kAuto;
  int max_draft = 32;            ///< Most tokens guessed at once for one sequence, 1 .. 64; fewer where that is faster.
  std::string draft_model = {};  ///< Path of a smaller model with the same tokenizer that guesses; empty = none.
};

/// Facts about a loaded model.
struct ModelInfo {
  std::string path = {};
  std::string format = {};        ///< "safetensors", "mlx" or "gguf".
  std::string architecture = {};  ///< For people; programs should not depend on it.
  int64_t parameters = 0;         ///< A table shared by input and output counted once.
  int n_layers = 0;
  int d_model = 0;
  int vocab_size = 0;
  int64_t max_context = 0;        ///< Positions the model was made for.
  int64_t context = 0;            ///< Most tokens of one sequence here, prompt included.
  size_t kv_bytes_per_token = 0;  ///< Memory that each cached token takes.
  std::optional<int32_t> bos_id = {};
  std::vector<int32_t> eos_ids = {};
  bool has_tokenizer = false;
  bool has_chat_format = false;
};

/// Owns weights, tokenizer, chat template and caches; freed with the object. Movable, not copyable; a moved-from model
/// may only be assigned to or destroyed. Every member may be called from any thread: generate and generate_all wait for
/// each other, the others do not wait. It must not be destroyed while a call runs.
///
///     auto model = mobilellm::Model::load("model.gguf", {.n_threads = 4});
///     mobilellm::GenerationRequest request;
///     request.prompt = "Name three colours.";
///     request.max_tokens = 200;
///     model.generate(request, [](const mobilellm::GenerationPiece& piece) {
///       std::cout << piece.text << std::flush;
///       return true;  // go on
///     });
class MOBILELLM_API Model {
 public:
  /// Opens a Hugging Face or MLX folder, or a .gguf file. Weights are mapped from the files where their layout allows,
  /// so the files must stay unchanged while the model lives. Throws kNotFound, kIo, kCorruptData, kUnsupported,
  /// kResourceLimit, kInvalidArgument for options and for a draft model with another vocabulary, kCancelled by
  /// on_progress.
  static Model load(const std::string& path, const ModelOptions& options = {});
  ~Model();
  Model(Model&& other) noexcept;
  Model& operator=(Model&& other) noexcept;

  const ModelInfo& info() const;
  /// Throws kNotFound when the model came without one.
  TextTokenizer tokenizer() const;
  /// Throws kNotFound when the model came without one.
  ChatFormat chat_format() const;
  /// What generation_config.json of the model recommends; defaults where it says nothing.
  SamplingOptions recommended_sampling() const;

  /// The prompt that generate would use, without running it. Throws kTemplate, kInvalidArgument.
  PromptPreview preview(const GenerationRequest& request) const;

  /// Throws kContextExceeded before any work when the prompt does not fit, kInvalidArgument, kTemplate, kNotFound when
  /// the model has no tokenizer, kResourceLimit when memory runs out.
  GenerationResult generate(const GenerationRequest& request, const PieceCallback& on_piece = {});
  /// Several requests at once, faster than one after the other; each result equals that of generate alone. Neighbours
  /// with equal prompts and sampling options compute the prompt once (give them different `sample` numbers).
  std::vector<GenerationResult> generate_all(std::span<const GenerationRequest> requests,
                                             const PieceCallback& on_piece = {});

 private:
  struct State;
  explicit Model(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace mobilellm
