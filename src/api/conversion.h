/// Between the public structures and those of the pipeline, with the checks that only this border needs.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "mobilellm/chat.h"
#include "mobilellm/generation.h"
#include "mobilellm/model.h"
#include "pipeline/pipeline.h"

namespace mobilellm {

/// Throws kInvalidArgument for an empty path and for one with a zero byte, which the system would cut.
void check_path(const std::string& path);

enum class JsonKind { kArray, kObject };
/// JSON given as an argument; null for an empty text. Throws kInvalidArgument naming `name`.
Json parse_json_argument(std::string_view text, const char* name, JsonKind kind);

Json to_json(const std::vector<ChatMessage>& messages);

/// Throw kInvalidArgument naming the member.
TextModelOptions to_internal(const ModelOptions& options);
GenerateRequest to_internal(const GenerationRequest& request);

SamplingOptions to_public(const GenerationDefaults& defaults);
GenerationResult to_public(GenerateResult result);
ModelInfo describe(const TextModel& model);

}  // namespace mobilellm
