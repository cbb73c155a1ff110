/// Tokenizer, chat template and generation settings on their way from source to target.
#pragma once

#include <string>
#include <vector>

#include "base/staged_output.h"
#include "convert/convert.h"
#include "formats/checkpoint_dir.h"
#include "formats/gguf_writer.h"
#include "model/spec.h"

namespace mobilellm {

/// Folder to folder: copies tokenizer, template, generation and licence files, whose names are known and plain.
void copy_text_files(const CheckpointDir& source, const StagedOutput& target);

/// Folder to GGUF: the tokenizer.* keys. A tokenizer that they cannot express is carried whole, with a note.
void write_gguf_text(const CheckpointDir& source, const ModelSpec& spec, GgufMetadata& metadata,
                     std::vector<std::string>& notes);

/// GGUF to folder: tokenizer.json, tokenizer_config.json, chat_template.jinja, generation_config.json.
void write_folder_text(const CheckpointDir& source, const ModelSpec& spec, const StagedOutput& target,
                       std::vector<std::string>& notes);

}  // namespace mobilellm
