// Fuzzes the GGUF reader: every tensor it accepts must lie in the file and be readable, every key must have its value.
#include <cstddef>
#include <cstdint>

#include "codec/codec.h"
#include "formats/gguf.h"
#include "memory_file.h"
#include "mobilellm/error.h"

namespace {

// Reads every value in every form; wrong types throw.
template <typename Function>
void attempt(Function&& function) {
  try {
    function();
  } catch (const mobilellm::Error&) {
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace mobilellm;
  static const MemoryFile file("fuzz.gguf");
  file.write(data, size);
  attempt([&] {
    const auto source = GgufFile::open(file.path());
    for (const std::string& key : source->keys()) {
      if (source->find_key(key) == nullptr) __builtin_trap();
      attempt([&] { source->get_int(key, INT64_MIN, INT64_MAX); });
      attempt([&] { source->get_number(key); });
      attempt([&] { source->get_string(key); });
      attempt([&] { source->get_ints(key); });
      attempt([&] { source->get_floats(key); });
      attempt([&] {
        size_t n_bytes = 0;
        for (const std::string_view text : source->get_strings(key)) n_bytes += text.size();
        if (n_bytes > size) __builtin_trap();
      });
    }
    for (const TensorView& tensor : source->tensors()) {
      if (source->find(tensor.name) != &tensor) __builtin_trap();
      attempt([&] { decode_tensor(tensor); });
    }
    if (source->total_bytes() > size) __builtin_trap();
  });
  return 0;
}
