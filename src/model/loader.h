/// From a path to everything that generation needs: spec, weights, tokenizer, chat template, stop ids.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "chat/template.h"
#include "formats/gguf.h"
#include "model/spec.h"
#include "model/weights.h"
#include "tokenizer/tokenizer.h"

namespace mobilellm {

/// Values of generation_config.json; absent ones are unset.
struct GenerationDefaults {
  std::optional<double> temperature, top_p, min_p, repetition_penalty;
  std::optional<int64_t> top_k;
};

struct LoadedModel {
  std::string path;
  std::string format;  ///< "safetensors", "mlx" or "gguf".
  ModelSpec spec;
  ModelWeights weights;
  std::shared_ptr<const Tokenizer> tokenizer;         ///< Null when the folder has none.
  std::shared_ptr<const ChatTemplate> chat_template;  ///< Null when there is none.
  std::string bos_token, eos_token;                   ///< Text for the template; may be empty.
  GenerationDefaults defaults;
};

/// Opens a Hugging Face or MLX folder, a .gguf file, or a folder with one .gguf.
/// spec.eos_ids joins generation_config (which wins over config.json), the tokenizer's eos and end-of-turn tokens.
LoadedModel load_model(const std::string& path);

/// The tokenizer.ggml keys of a file that has them. Throws kCorruptData naming the key.
GgufVocab read_gguf_vocab(const GgufFile& file);

/// A whole tokenizer.json in a GGUF file of this program, for tokenizers that the tokenizer.ggml keys cannot express.
inline constexpr const char* kGgufTokenizerKey = "mobilellm.tokenizer";

/// Tokenizer and template alone, from a folder that may hold nothing else, or from a .gguf file.
struct LoadedText {
  std::shared_ptr<const Tokenizer> tokenizer;
  std::shared_ptr<const ChatTemplate> chat_template;
  std::string bos_token, eos_token;
};
LoadedText load_text_parts(const std::string& path);

}  // namespace mobilellm
