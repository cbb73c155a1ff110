// TextTokenizer over the tokenizer module.
#include "mobilellm/tokenizer.h"

#include <utility>

#include "api/conversion.h"
#include "api/handles.h"
#include "base/error.h"
#include "model/loader.h"

namespace mobilellm {

TextTokenizer::TextTokenizer(std::shared_ptr<const State> state) : state_(std::move(state)) {}

TextTokenizer TextTokenizer::load(const std::string& path) {
  check_path(path);
  auto state = std::make_shared<State>();
  state->tokenizer = load_text_parts(path).tokenizer;
  if (state->tokenizer == nullptr) {
    fail(ErrorCode::kNotFound, "[tokenizer] {} has no tokenizer; add tokenizer.json or tokenizer.model", path);
  }
  return TextTokenizer(std::move(state));
}

std::vector<int32_t> TextTokenizer::encode(std::string_view text, const TokenizeOptions& options) const {
  return state_->tokenizer->encode(text, {.add_special = options.add_special, .parse_special = options.parse_special});
}

std::string TextTokenizer::decode(std::span<const int32_t> ids, bool skip_special) const {
  return state_->tokenizer->decode(ids, skip_special);
}

std::string TextTokenizer::token_bytes(int32_t id) const { return state_->tokenizer->token_bytes(id); }

std::optional<int32_t> TextTokenizer::find(std::string_view token_text) const {
  return state_->tokenizer->find(token_text);
}

bool TextTokenizer::is_special(int32_t id) const { return state_->tokenizer->is_special(id); }
size_t TextTokenizer::vocab_size() const { return state_->tokenizer->vocab_size(); }
std::optional<int32_t> TextTokenizer::bos_id() const { return state_->tokenizer->bos_id(); }
std::string TextTokenizer::description() const { return state_->tokenizer->description(); }

}  // namespace mobilellm
