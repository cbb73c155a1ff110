/// A model as it lies on disk: a folder with config, tokenizer files and weights, or one GGUF file.
#pragma once

#include <memory>
#include <string>

#include "base/json.h"
#include "formats/gguf.h"
#include "formats/weight_source.h"

namespace mobilellm {

enum class WeightsNeed {
  kRequired,  ///< A folder without weights is an error.
  kOptional,  ///< Tokenizer files are enough; `weights` is null when there are none.
  kNone,      ///< Weight files are not opened even when present (except GGUF, whose tokenizer is inside).
};

/// Jsons are null and paths empty when the file is absent.
struct CheckpointDir {
  std::string path;         ///< As given: a folder or a .gguf file.
  Json config;              ///< config.json; null for GGUF.
  Json generation_config;   ///< generation_config.json
  Json tokenizer_config;    ///< tokenizer_config.json
  Json special_tokens_map;  ///< special_tokens_map.json
  std::string config_path;  ///< For error messages.
  std::string generation_config_path;
  std::string tokenizer_config_path;
  std::string tokenizer_json_path;        ///< tokenizer.json
  std::string tokenizer_model_path;       ///< tokenizer.model (SentencePiece or tiktoken text)
  std::string tiktoken_path;              ///< tiktoken.model or *.tiktoken
  std::string vocab_json_path;            ///< vocab.json
  std::string merges_path;                ///< merges.txt
  std::string chat_template_path;         ///< chat_template.jinja
  std::string chat_template_json_path;    ///< chat_template.json (key "chat_template")
  std::shared_ptr<WeightSource> weights;  ///< Null when there are none and none are required.
  std::shared_ptr<GgufFile> gguf;         ///< The same object as `weights` for GGUF, else null.

  bool is_gguf() const { return gguf != nullptr; }
};

/// Opens a folder (config.json with model.safetensors, its index, or other safetensors shards; or one GGUF file or
/// split set) or a .gguf file. Throws kNotFound for a missing path or a folder that is no model, listing what was
/// looked for; kUnsupported for pickled weights, saying how to convert them; and what the readers throw.
CheckpointDir open_checkpoint(const std::string& path, WeightsNeed need = WeightsNeed::kRequired);

}  // namespace mobilellm
