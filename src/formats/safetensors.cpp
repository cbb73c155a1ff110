// Reader of safetensors files.
#include "formats/safetensors.h"

namespace mobilellm {

const std::string* SafetensorsSource::find_metadata(std::string_view key) const {
  for (const auto& [name, value] : metadata()) {
    if (name == key) return &value;
  }
  return nullptr;
}

}  // namespace mobilellm
