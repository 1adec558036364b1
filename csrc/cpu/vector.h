// Loops over one row of classes, compiled for several instruction sets; the loader picks the widest the machine has.
// Each keeps a fixed summation order, so a machine always gives the same bits.
#pragma once

#include <algorithm>
#include <limits>

#include "../car_math.h"

#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && !defined(__clang__) && !defined(CAR_NO_CLONES)
#define CAR_CLONES __attribute__((target_clones("default", "arch=x86-64-v3", "arch=x86-64-v4")))
#else
#define CAR_CLONES
#endif
#define CAR_INLINE inline __attribute__((always_inline))

namespace car::vector {

template <class A>
struct Surrogate {  // the options a row needs
  A gamma, inv_temperature;
  bool softmax_over_all, detach_gate;
};

// z (K) is used as scratch. Writes p and g (car_math.h) with g_y = 0, and p_y = 0 where the softmax leaves y out.
template <class A>
CAR_INLINE void softmax_and_gate(A* z, int64_t classes, int64_t y, const Surrogate<A>& o, A* p, A* g) {
  const A lowest = std::numeric_limits<A>::lowest();
  const A z_true = std::max(z[y], lowest);  // a masked (-inf) logit counts as the lowest finite one
  if (!o.softmax_over_all) z[y] = lowest;
  A top = lowest;
#pragma omp simd reduction(max : top)
  for (int64_t i = 0; i < classes; ++i) top = z[i] > top ? z[i] : top;
  A sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < classes; ++i) {
    const A e = exponential((z[i] - top) * o.inv_temperature);
    p[i] = e;
    sum += e;
  }
  if (!o.softmax_over_all) sum -= p[y];
  const A scale = A(1) / sum;
  if (o.inv_temperature == A(1)) {
    const A cut = exponential(z_true - o.gamma - top);
#pragma omp simd
    for (int64_t i = 0; i < classes; ++i) {
      g[i] = gate_from_numerator(p[i], cut);
      p[i] *= scale;
    }
  } else {
#pragma omp simd
    for (int64_t i = 0; i < classes; ++i) {
      g[i] = gate(z[i], z_true, o.gamma);
      p[i] *= scale;
    }
  }
  g[y] = 0;
  if (!o.softmax_over_all) p[y] = 0;
}

template <class A>
CAR_INLINE bool all_below_infinity(const A* z, int64_t n) {  // false for NaN and +inf; -inf is a masked class
  int bad = 0;
#pragma omp simd reduction(+ : bad)
  for (int64_t i = 0; i < n; ++i) bad += !(z[i] <= std::numeric_limits<A>::max());
  return bad == 0;
}

template <class A>
CAR_INLINE void product(const A* x, const A* y, int64_t n, A* out) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) out[i] = x[i] * y[i];
}

template <class A>
CAR_INLINE A dot(const A* x, const A* y, int64_t n) {
  A sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < n; ++i) sum += x[i] * y[i];
  return sum;
}

template <class A>
CAR_INLINE void add_scaled(A* out, A scale, const A* x, int64_t n) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) out[i] += scale * x[i];
}

template <class A>
CAR_INLINE void scale(A* x, A factor, int64_t n) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) x[i] *= factor;
}

// Gradient of s * sum_i u_i v_i for one row, into grad (K). p, g from softmax_and_gate.
template <class A>
CAR_INLINE void row_gradient(const A* u, const A* p, const A* g, int64_t classes, int64_t y, A s, const Surrogate<A>& o, A* grad) {
  A along = 0, true_slope = 0;  // sum_i u_i v_i and sum_i u_i p_i g_i (1 - g_i)
#pragma omp simd reduction(+ : along, true_slope)
  for (int64_t i = 0; i < classes; ++i) {
    along += u[i] * p[i] * g[i];
    true_slope += u[i] * gate_slope(p[i], g[i], o.detach_gate);
  }
#pragma omp simd
  for (int64_t i = 0; i < classes; ++i)
    grad[i] = logit_gradient(s, u[i], p[i], g[i], along, o.inv_temperature, o.detach_gate);
  grad[y] -= s * true_slope;
}

// One multiversioned entry a scalar type: target_clones does not apply to templates.
#define CAR_VECTOR_ENTRIES(A)                                                                                          \
  CAR_CLONES static bool surrogate_row(A* z, int64_t classes, int64_t y, const Surrogate<A>& o, A* p, A* g, A* v) {     \
    if (!all_below_infinity(z, classes)) return false;                                                                 \
    softmax_and_gate(z, classes, y, o, p, g);                                                                          \
    product(p, g, classes, v);                                                                                         \
    return true;                                                                                                       \
  }                                                                                                                    \
  CAR_CLONES static void gradient_row(A* z, int64_t classes, int64_t y, const Surrogate<A>& o, A* p, A* g, const A* u,  \
                                      A s, A* grad) {                                                                  \
    softmax_and_gate(z, classes, y, o, p, g);                                                                          \
    row_gradient(u, p, g, classes, y, s, o, grad);                                                                     \
  }                                                                                                                    \
  /* Row of M^T: returns c = d (row . q) and adds d c row to out, the row's part of M M^T q; one read of memory. */     \
  CAR_CLONES static A gram_row(const A* row, const A* q, A d, int64_t n, A* out) {                                      \
    const A c = d * dot(row, q, n);                                                                                    \
    add_scaled(out, d * c, row, n);                                                                                    \
    return c;                                                                                                          \
  }                                                                                                                    \
  CAR_CLONES static A dot_of(const A* x, const A* y, int64_t n) { return dot(x, y, n); }                                \
  CAR_CLONES static void add_to(A* out, A factor, const A* x, int64_t n) { add_scaled(out, factor, x, n); }             \
  CAR_CLONES static void scale_by(A* x, A factor, int64_t n) { scale(x, factor, n); }

CAR_VECTOR_ENTRIES(float)
CAR_VECTOR_ENTRIES(double)
#undef CAR_VECTOR_ENTRIES

}  // namespace car::vector
