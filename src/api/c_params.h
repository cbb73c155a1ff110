/// Parameters of the C API turned into those of the C++ one.
#pragma once

#include <string>
#include <string_view>

#include "base/error.h"
#include "mobilellm/c_api.h"
#include "mobilellm/chat.h"
#include "mobilellm/generation.h"
#include "mobilellm/model.h"
#include "mobilellm/tokenizer.h"

namespace mobilellm::c_api {

/// Throw kInvalidArgument naming `name` for a NULL pointer with a length, and for lengths that no object can have.
std::string_view view(const char* data, size_t length, const char* name);
std::string_view view(mobilellm_text text, const char* name);
void check_array(const void* data, size_t n, size_t element_size, const char* name);

/// The parameters, or the defaults for NULL. Throws kInvalidArgument when they were not made by `_default_params`.
template <typename Params>
Params read_params(const Params* params, const Params& defaults, const char* name) {
  if (params == nullptr) return defaults;
  if (params->struct_size != sizeof(Params)) {
    fail(ErrorCode::kInvalidArgument, "[api] {}: struct_size is {}, expected {}; begin with its _default_params()",
         name, params->struct_size, sizeof(Params));
  }
  return *params;
}

ModelOptions to_cpp(const mobilellm_model_params& params);
TokenizeOptions to_cpp(const mobilellm_tokenize_params& params);
RenderOptions to_cpp(const mobilellm_render_params& params);
GenerationRequest to_cpp(const mobilellm_generate_params& params);
std::vector<ChatMessage> to_cpp(const mobilellm_message* messages, size_t n_messages);
mobilellm_sampling_params to_c(const SamplingOptions& options);

}  // namespace mobilellm::c_api

/// Ends requests from another thread.
struct mobilellm_cancel_flag {
  std::atomic<bool> is_set{false};
};
