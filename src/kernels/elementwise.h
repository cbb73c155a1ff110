// Norm, activations and sums over one row; included by each ISA file after its vec16 header.
#include "kernels/kernels.h"

namespace {

using mobilellm::AddArgs;
using mobilellm::GatedActivationArgs;
using mobilellm::RmsNormArgs;

// exp(x) within 2 ulp on [-87, 88]; 0 below, exp(88) above; NaN stays NaN.
// Reduction by ln 2 in two parts and the degree-6 polynomial of Cephes expf.
inline Vec16 exp16(Vec16 x) {
  const Vec16 low = Vec16::set1(-87.0F);
  // The constant comes first: the second operand wins over NaN.
  const Vec16 clamped = Vec16::min(Vec16::set1(88.0F), Vec16::max(low, x));
  const Vec16 n = Vec16::round(clamped * Vec16::set1(1.44269504088896341F));
  Vec16 r = Vec16::fma(n, Vec16::set1(-0.693359375F), clamped);
  r = Vec16::fma(n, Vec16::set1(2.12194440e-4F), r);
  Vec16 p = Vec16::set1(1.9875691500e-4F);
  p = Vec16::fma(p, r, Vec16::set1(1.3981999507e-3F));
  p = Vec16::fma(p, r, Vec16::set1(8.3334519073e-3F));
  p = Vec16::fma(p, r, Vec16::set1(4.1665795894e-2F));
  p = Vec16::fma(p, r, Vec16::set1(1.6666665459e-1F));
  p = Vec16::fma(p, r, Vec16::set1(5.0000001201e-1F));
  p = Vec16::fma(p, r * r, r + Vec16::set1(1.0F));
  return Vec16::zero_if_lt(x, low, p * Vec16::exp2_integral(n));
}

inline float exp_scalar(float x) {
  float out[16];
  exp16(Vec16::set1(x)).store(out);
  return out[0];
}

// Calls f(offset, n) for full vectors (n == 16) and the rest.
template <typename F>
inline void for_each_vector(int64_t n, F f) {
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) f(i, 16);
  if (i < n) f(i, static_cast<int>(n - i));
}

inline Vec16 load_n(const float* p, int n) { return n == 16 ? Vec16::load(p) : Vec16::load_partial(p, n); }
inline void store_n(Vec16 v, float* p, int n) {
  if (n == 16) {
    v.store(p);
  } else {
    v.store_partial(p, n);
  }
}

void rms_norm(const RmsNormArgs& a) noexcept {
  Vec16 sum = Vec16::zero();
  for_each_vector(a.n, [&](int64_t i, int n) {
    const Vec16 x = load_n(a.x + i, n);
    sum = Vec16::fma(x, x, sum);
  });
  const float mean = sum.reduce_add() / static_cast<float>(a.n);
  const Vec16 scale = Vec16::set1(1.0F / __builtin_sqrtf(mean + a.eps));
  for_each_vector(a.n, [&](int64_t i, int n) {
    Vec16 y = load_n(a.x + i, n) * scale;
    if (a.weight != nullptr) y = y * load_n(a.weight + i, n);
    store_n(y, a.y + i, n);
  });
}

template <typename Activation>
inline void gated(const GatedActivationArgs& a, Activation activation) {
  for_each_vector(a.n, [&](int64_t i, int n) {
    Vec16 y = activation(load_n(a.gate + i, n));
    if (a.up != nullptr) y = y * load_n(a.up + i, n);
    store_n(y, a.out + i, n);
  });
}

void silu_mul(const GatedActivationArgs& a) noexcept {
  const Vec16 one = Vec16::set1(1.0F);
  gated(a, [&](Vec16 x) { return x / (one + exp16(Vec16::zero() - x)); });
}

// 0.5 x (1 + tanh(u)) = x / (1 + exp(-2u)), u = sqrt(2 / pi) (x + 0.044715 x^3)
void gelu_tanh_mul(const GatedActivationArgs& a) noexcept {
  const Vec16 one = Vec16::set1(1.0F);
  gated(a, [&](Vec16 x) {
    const Vec16 inner = Vec16::fma(Vec16::set1(0.044715F) * x * x, x, x);
    return x / (one + exp16(inner * Vec16::set1(-2.0F * 0.79788456080286536F)));
  });
}

void add(const AddArgs& a) noexcept {
  for_each_vector(a.n, [&](int64_t i, int n) { store_n(load_n(a.y + i, n) + load_n(a.x + i, n), a.y + i, n); });
}

}  // namespace
