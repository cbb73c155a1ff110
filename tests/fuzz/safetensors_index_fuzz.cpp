// Fuzzes the index of a sharded model: whatever it says, only files of its own folder may be opened.
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>

#include "base/mapped_file.h"
#include "formats/safetensors.h"
#include "memory_file.h"
#include "mobilellm/error.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace mobilellm;
  static const MemoryFile index("model.safetensors.index.json");
  static const MemoryFile shard("a.safetensors");
  constexpr uint8_t kShard[] = "\x37\0\0\0\0\0\0\0{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}   x";
  shard.write(kShard, 8 + 0x37 + 1);
  index.write(data, size);
  try {
    const auto source = open_safetensors_index(index.path());
    for (const TensorView& tensor : source->tensors()) {
      if (std::filesystem::path(tensor.file->path()).parent_path() !=
          std::filesystem::path(index.path()).parent_path()) {
        __builtin_trap();
      }
    }
  } catch (const Error&) {
    // Refusing is right for almost every input.
  }
  return 0;
}
