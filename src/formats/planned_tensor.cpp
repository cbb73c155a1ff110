// Sizes of planned tensors, and writing them with their sizes checked.
#include "formats/planned_tensor.h"

#include "base/error.h"
#include "tensor/tensor_view.h"

namespace mobilellm {

size_t planned_bytes(const PlannedTensor& tensor) {
  const int64_t n_values = checked_n_values(tensor.shape, tensor.name);
  const int64_t columns = tensor.shape.empty() ? 1 : tensor.shape.back();
  if (columns == 0) return 0;
  return checked_mul(static_cast<size_t>(n_values / columns), row_bytes(tensor.dtype, columns), "bytes of a tensor");
}

size_t planned_bytes(std::span<const PlannedTensor> tensors) {
  size_t sum = 0;
  for (const PlannedTensor& tensor : tensors) sum = checked_add(sum, planned_bytes(tensor), "bytes of a file");
  return sum;
}

void write_planned(const PlannedTensor& tensor, OutputFile& file) {
  const size_t begin = file.position();
  const size_t expected = planned_bytes(tensor);
  tensor.write([&](std::span<const std::byte> bytes) { file.write(bytes); });
  if (file.position() - begin == expected) return;
  fail(ErrorCode::kInternal, "[output] tensor '{}': got {} bytes, expected {}", printable_name(tensor.name),
       file.position() - begin, expected);
}

std::vector<std::span<const PlannedTensor>> split_into_shards(std::span<const PlannedTensor> tensors,
                                                              size_t max_bytes) {
  std::vector<std::span<const PlannedTensor>> shards;
  size_t begin = 0;
  size_t n_bytes = 0;
  for (size_t i = 0; i < tensors.size(); ++i) {
    const size_t next = planned_bytes(tensors[i]);
    if (max_bytes > 0 && i > begin && n_bytes + next > max_bytes) {
      shards.push_back(tensors.subspan(begin, i - begin));
      begin = i;
      n_bytes = 0;
    }
    n_bytes += next;
  }
  shards.push_back(tensors.subspan(begin));
  return shards;
}

}  // namespace mobilellm
