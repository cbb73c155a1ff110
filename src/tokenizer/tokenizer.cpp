// Tokenizer: encode and decode over the loaded parts.
#include "tokenizer/tokenizer.h"

#include "base/error.h"

namespace mobilellm {

struct Tokenizer::Parts {};

Tokenizer::Tokenizer(std::unique_ptr<const Parts> parts) : parts_(std::move(parts)) {}
Tokenizer::~Tokenizer() = default;

std::shared_ptr<const Tokenizer> load_tokenizer_json(const std::string& path) {
  fail(ErrorCode::kUnsupported, "[tokenizer] {}: reading vocabularies is not built yet", path);
}

}  // namespace mobilellm
