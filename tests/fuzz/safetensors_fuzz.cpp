// Fuzzes the safetensors reader: every tensor it accepts must lie in the file and be readable.
#include <cstddef>
#include <cstdint>

#include "codec/codec.h"
#include "formats/safetensors.h"
#include "memory_file.h"
#include "mobilellm/error.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace mobilellm;
  static const MemoryFile file("fuzz.safetensors");
  file.write(data, size);
  try {
    const auto source = open_safetensors(file.path());
    for (const TensorView& tensor : source->tensors()) {
      if (source->find(tensor.name) != &tensor) __builtin_trap();
      if (find_codec(tensor.dtype) != nullptr) decode_tensor(tensor);
    }
    if (source->total_bytes() > size) __builtin_trap();
  } catch (const Error&) {
    // Refusing is right for almost every input.
  }
  return 0;
}
