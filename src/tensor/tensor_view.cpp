// Names, shapes and sizes of tensor views.
#include "tensor/tensor_view.h"

#include <algorithm>

#include "base/error.h"
#include "base/mapped_file.h"

namespace mobilellm {

int64_t TensorView::n_values() const {
  int64_t product = 1;
  for (const int64_t dimension : shape) product *= dimension;
  return product;
}

const char* TensorView::type_name() const {
  return unsupported_type.empty() ? dtype_name(dtype) : unsupported_type.c_str();
}

void check_supported(const TensorView& tensor) {
  if (tensor.unsupported_type.empty()) return;
  fail(ErrorCode::kUnsupported,
       "[tensor] {} has type {}, which this program cannot read; use a file quantized to another type",
       describe(tensor), tensor.unsupported_type);
}

std::string shape_text(std::span<const int64_t> shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) {
    if (i > 0) text += ", ";
    text += std::to_string(shape[i]);
  }
  return text + "]";
}

std::string printable_name(std::string_view name) {
  constexpr size_t kMaxBytes = 200;
  const bool is_long = name.size() > kMaxBytes;
  std::string text(name.substr(0, kMaxBytes));
  if (is_long) {
    // Do not end inside a UTF-8 sequence.
    while (!text.empty() && (static_cast<unsigned char>(text.back()) & 0xC0) == 0x80) text.pop_back();
    if (!text.empty() && static_cast<unsigned char>(text.back()) >= 0xC0) text.pop_back();
    text += "...";
  }
  for (char& c : text) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) c = '?';
  }
  return text;
}

std::string describe(const TensorView& tensor) {
  std::string text = "tensor '" + printable_name(tensor.name) + "'";
  if (tensor.file != nullptr) text += " of " + tensor.file->path();
  return text;
}

int64_t checked_n_values(std::span<const int64_t> shape, std::string_view what) {
  // A zero anywhere makes the product zero, but the other dimensions must be sane too: multiply them without it.
  int64_t product = 1;
  bool has_zero = false;
  for (const int64_t dimension : shape) {
    if (dimension < 0 || (dimension > 0 && __builtin_mul_overflow(product, dimension, &product))) {
      fail(ErrorCode::kCorruptData,
           "[tensor] {}: got shape {}, expected dimensions of at least 0 and a product below 2^63", what,
           shape_text(shape.first(std::min<size_t>(shape.size(), 8))));
    }
    has_zero = has_zero || dimension == 0;
  }
  return has_zero ? 0 : product;
}

}  // namespace mobilellm
