// tokenizer.json from arbitrary text: loads or throws Error, and whatever loads encodes and decodes.
#include "mobilellm/error.h"
#include "tokenizer/stream_decoder.h"
#include "tokenizer/tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace mobilellm;
  try {
    const auto tokenizer = load_tokenizer_json_text({reinterpret_cast<const char*>(data), size}, "fuzz");
    for (const bool is_wanted : {false, true}) {
      const std::vector<TokenId> ids =
          tokenizer->encode("Hi  <s> it's 123\r\n \xE2\x96\x81\xC3\xA9\xF0\x9F\x91\xA8\xFF", {is_wanted, is_wanted});
      StreamDecoder stream(*tokenizer, is_wanted);
      std::string text;
      for (const TokenId id : ids) {
        text += stream.push(id);
        (void)tokenizer->token_bytes(id);
      }
      text += stream.flush();
      if (text != tokenizer->decode(ids, is_wanted)) __builtin_trap();
    }
    (void)tokenizer->encode_pair("a", "b", {.add_special = true});
  } catch (const Error&) {
  }
  return 0;
}
