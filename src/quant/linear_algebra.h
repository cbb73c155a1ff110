/// Dense f32 linear algebra of quantization, on the kernels' dot products: results are the same for any number of
/// threads and any instruction set.
#pragma once

#include <cstdint>

namespace mobilellm {

class ThreadPool;
struct KernelTable;

/// Numbers of a lower triangle [n, n] with its diagonal, whose rows lie one after the other, and where row i begins.
constexpr int64_t triangle_size(int64_t n) { return n * (n + 1) / 2; }
constexpr int64_t triangle_row(int64_t i) { return triangle_size(i); }

/// out[r * out_stride + j] = sum_k a[r * a_stride + k] * b[j * b_stride + k], r < n_rows, j < n.
void multiply_transposed(const KernelTable& kernels, const float* a, int64_t a_stride, int64_t n_rows, const float* b,
                         int64_t b_stride, int64_t n, int64_t k, float* out, int64_t out_stride);

/// Adds X^T X to the lower triangle `gram` of [cols, cols]. x [n_tokens, cols] has rows x_stride floats apart. Sums run
/// in f32 over chunks of 512 tokens of this call.
void add_gram(const float* x, int64_t n_tokens, int64_t x_stride, int64_t cols, float* gram, ThreadPool& pool);

/// Replaces the lower triangle of a symmetric positive definite matrix a [n, n], row-major, by L with a = L L^T; the
/// upper triangle is not read, and destroyed. Returns false, leaving the matrix in an undefined state, when it is not
/// positive definite.
[[nodiscard]] bool factor_cholesky(float* a, int64_t n, ThreadPool& pool);

/// Transposes a [n, n] in place.
void transpose_square(float* a, int64_t n, ThreadPool& pool);

}  // namespace mobilellm
