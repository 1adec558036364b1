// Every scalar formula of the regularizer, once, for the CPU and the CUDA kernels alike. No torch header in here.
//
// Notation (docs/kernel.md): z logits, y the true class, tau the temperature, gamma the margin,
//   p_i = softmax(z / tau)_i     over i != y (paper) or over every i (reference code)
//   g_i = sigmoid(gamma + z_i - z_y)
//   v_i = g_i p_i for i != y,  v_y = 0
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#if defined(__CUDACC__)
#define CAR_HD __host__ __device__ __forceinline__
#else
#define CAR_HD inline __attribute__((always_inline))
#endif

namespace car {

// exp for the softmax and the gate. The argument is clamped to +-87 so that the result is neither zero, denormal
// nor infinite: quotients of two such values are then always finite, which spares every caller a branch.
// float: 2^n e^r, |r| <= ln(2)/2, Taylor to r^7 (next term 5e-9), branch-free so that loops over it vectorise.
CAR_HD float exponential(float x) {
  x = x > 87.f ? 87.f : x;
  x = x < -87.f ? -87.f : x;
#if defined(__CUDA_ARCH__)
  return expf(x);
#else
  const float shift = 12582912.f;  // 1.5 * 2^23: adding it rounds to an integer kept in the low mantissa bits
  const float shifted = x * 1.44269504f + shift;
  const float n = shifted - shift;
  float r = x - n * 0.693145752f;  // ln 2 in two parts: the first has few enough bits for n * ln2 to be exact
  r -= n * 1.42860677e-6f;
  float e = 1.f / 5040.f;
  e = e * r + 1.f / 720.f;
  e = e * r + 1.f / 120.f;
  e = e * r + 1.f / 24.f;
  e = e * r + 1.f / 6.f;
  e = e * r + 0.5f;
  e = e * r + 1.f;
  e = e * r + 1.f;
  int32_t bits;
  std::memcpy(&bits, &shifted, sizeof bits);
  bits = static_cast<int32_t>(static_cast<uint32_t>(bits + 127) << 23);
  float two_to_n;
  std::memcpy(&two_to_n, &bits, sizeof two_to_n);
  return e * two_to_n;
#endif
}
CAR_HD double exponential(double x) {
  return exp(x > 700. ? 700. : (x < -700. ? -700. : x));
}

// The gate from its own exponential: any temperature.
template <class A>
CAR_HD A gate(A z_i, A z_true, A gamma) {
  return A(1) / (A(1) + exponential(z_true - gamma - z_i));
}

// The gate from the softmax numerator e_i = exp(z_i - max), possible when tau = 1: one exponential an element
// instead of two. cut = exp(z_y - gamma - max). Both are clamped away from 0 and infinity (exponential).
template <class A>
CAR_HD A gate_from_numerator(A e_i, A cut) {
  return e_i / (e_i + cut);
}

// d v_i / d (its own gate), already times p_i; zero when the gate is detached.
template <class A>
CAR_HD A gate_slope(A p_i, A g_i, bool detach_gate) {
  return detach_gate ? A(0) : p_i * g_i * (A(1) - g_i);
}

// Gradient of s * sum_i u_i v_i with respect to z_k, k != y. `dot` = sum_i u_i v_i.
// With g_y = 0 it also gives the softmax part for k = y: p_y is 0 in the paper's variant, where y is left out.
template <class A>
CAR_HD A logit_gradient(A s, A u_k, A p_k, A g_k, A dot, A inv_temperature, bool detach_gate) {
  return s * (u_k * gate_slope(p_k, g_k, detach_gate) + p_k * inv_temperature * (u_k * g_k - dot));
}

// The decayed average's bias correction, 1 - beta^updates: what share of its weight real batches have filled.
// Powers by squaring: the same bits on CPU and GPU, and no call out of a kernel.
CAR_HD double filled_share(double beta, int64_t updates) {
  if (updates <= 0) return 1.;
  double power = 1;
  for (double square = beta; updates > 0; updates /= 2, square *= square)
    if (updates % 2) power *= square;
  return 1. - power;
}

}  // namespace car
