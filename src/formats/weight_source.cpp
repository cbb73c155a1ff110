// Lookup by name over the tensors of a source.
#include "formats/weight_source.h"

#include "base/error.h"
#include "base/mapped_file.h"

namespace mobilellm {

WeightSource::~WeightSource() = default;

const TensorView* WeightSource::find(std::string_view name) const {
  const auto entry = index_.find(name);
  return entry == index_.end() ? nullptr : &tensors()[entry->second];
}

const TensorView& WeightSource::get(std::string_view name) const {
  const TensorView* tensor = find(name);
  if (tensor == nullptr) {
    fail(ErrorCode::kNotFound, "[weights] tensor '{}' is missing from {}", printable_name(name), path());
  }
  return *tensor;
}

void WeightSource::release(const TensorView& tensor) const {
  if (tensor.file != nullptr) tensor.file->release(tensor.data);
}

void WeightSource::release(std::span<const std::byte> range) const {
  for (const TensorView& tensor : tensors()) {
    if (tensor.file == nullptr) continue;
    const std::span<const std::byte> file = tensor.file->bytes();
    if (range.data() >= file.data() && range.data() + range.size() <= file.data() + file.size()) {
      tensor.file->release(range);
      return;
    }
  }
}

size_t WeightSource::total_bytes() const {
  size_t total = 0;
  for (const TensorView& tensor : tensors()) total += tensor.data.size();
  return total;
}

void WeightSource::build_index() {
  const std::vector<TensorView>& all = tensors();
  index_.reserve(all.size());
  for (size_t i = 0; i < all.size(); ++i) {
    if (!index_.emplace(all[i].name, i).second) {
      fail(ErrorCode::kCorruptData, "[weights] {}: the name appears twice in {}", describe(all[i]), path());
    }
  }
}

}  // namespace mobilellm
