// tokenizer.model from arbitrary bytes, as SentencePiece protobuf and as tiktoken lines.
#include "mobilellm/error.h"
#include "tokenizer/tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace mobilellm;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  for (const auto load : {load_sentencepiece_bytes, load_tiktoken_text}) {
    try {
      const auto tokenizer = load(bytes, "fuzz");
      (void)tokenizer->decode(
          tokenizer->encode("Hi  <s> it's 123\r\n \xE2\x96\x81\xC3\xA9\xF0\x9F\x91\xA8\xFF", {.add_special = true}));
    } catch (const Error&) {
    }
  }
  return 0;
}
