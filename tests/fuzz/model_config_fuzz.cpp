// Fuzzes config.json and GGUF metadata through the families to a tensor table. The first byte chooses the format; the
// rest is JSON (metadata as one flat object).
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "codec/quantization_config.h"
#include "mobilellm/error.h"
#include "model/arch/registry.h"
#include "model/tensor_table.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace mobilellm;
  if (size == 0) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  try {
    const Json config = Json::parse(text, "fuzz.json");
    if (data[0] % 2 == 0) {
      parse_quantization_config(config, "fuzz.json");
      const ModelDescription description = describe_config(config, "fuzz.json", {}, data[0] % 4 == 0);
      if (tensor_table(description).empty()) __builtin_trap();
    } else {
      const TensorShapes shapes = {{"token_embd.weight", {100, 64}}, {"blk.0.attn_q.bias", {64}}};
      const ModelDescription description = describe_gguf(config, "fuzz.gguf", shapes, {1, 2, 4, 8});
      if (parameter_count(description.spec) <= 0) __builtin_trap();
    }
  } catch (const Error&) {
    // Refusing is right for almost every input.
  }
  return 0;
}
