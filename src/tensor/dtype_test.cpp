// Names and sizes of number types, and descriptions of tensors.
#include "tensor/dtype.h"

#include <gtest/gtest.h>

#include "tensor/tensor_view.h"
#include "tests/support/scratch_folder.h"

namespace mobilellm {
namespace {

TEST(DType, NamesReadBack) {
  for (size_t i = 0; i < kDTypeCount; ++i) {
    const auto dtype = static_cast<DType>(i);
    ASSERT_TRUE(find_dtype(dtype_name(dtype)).has_value()) << dtype_name(dtype);
    EXPECT_EQ(*find_dtype(dtype_name(dtype)), dtype);
    EXPECT_EQ(is_block_dtype(dtype), dtype >= DType::kQ4_0);
  }
  EXPECT_FALSE(find_dtype("F4").has_value());
  EXPECT_FALSE(find_dtype("").has_value());
}

TEST(DType, RowBytes) {
  EXPECT_EQ(row_bytes(DType::kBF16, 576), 1152U);
  EXPECT_EQ(row_bytes(DType::kQ4_K, 512), 288U);
  EXPECT_EQ(row_bytes(DType::kQ6_K, 256), 210U);
  EXPECT_EQ(row_bytes(DType::kMXFP4, 64), 34U);
  EXPECT_EQ(row_bytes(DType::kF32, 0), 0U);
  expect_error(ErrorCode::kCorruptData, {"Q4_K", "576", "256"}, [] { row_bytes(DType::kQ4_K, 576); });
  expect_error(ErrorCode::kCorruptData, {"-1"}, [] { row_bytes(DType::kF32, -1); });
  expect_error(ErrorCode::kCorruptData, {"bytes of a row"}, [] { row_bytes(DType::kF32, INT64_MAX); });
}

TEST(TensorView, ProductsOfShapesAreChecked) {
  EXPECT_EQ(checked_n_values(std::vector<int64_t>{}, "t"), 1);
  EXPECT_EQ(checked_n_values(std::vector<int64_t>{3, 4}, "t"), 12);
  EXPECT_EQ(checked_n_values(std::vector<int64_t>{3, 0}, "t"), 0);
  const int64_t huge = int64_t{1} << 40;
  expect_error(ErrorCode::kCorruptData, {"some tensor"},
               [&] { checked_n_values(std::vector<int64_t>{huge, huge}, "some tensor"); });
  // A zero does not hide dimensions that could not be multiplied.
  expect_error(ErrorCode::kCorruptData, {"t:"}, [&] { checked_n_values(std::vector<int64_t>{0, huge, huge}, "t"); });
  expect_error(ErrorCode::kCorruptData, {"[2, -3]"}, [] { checked_n_values(std::vector<int64_t>{2, -3}, "t"); });
}

TEST(TensorView, NamesArePrintable) {
  EXPECT_EQ(printable_name("a\nb\x1b[31m"), "a?b?[31m");
  const std::string long_name = printable_name(std::string(199, 'x') + "\xC3\xA9" + std::string(1000, 'y'));
  EXPECT_EQ(long_name, std::string(199, 'x') + "...");
  TensorView tensor;
  tensor.name = "w";
  tensor.unsupported_type = "IQ3_S";
  EXPECT_STREQ(tensor.type_name(), "IQ3_S");
  expect_error(ErrorCode::kUnsupported, {"'w'", "IQ3_S"}, [&] { check_supported(tensor); });
}

}  // namespace
}  // namespace mobilellm
