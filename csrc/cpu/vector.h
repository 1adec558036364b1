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

constexpr int32_t kLanes = 16;  // rows are worked on as whole vectors: short ones need no loop for the remainder

inline int32_t padded(int64_t n) { return static_cast<int32_t>((n + kLanes - 1) / kLanes * kLanes); }

template <class A>
struct Surrogate {  // the options a row needs
  A gamma, inv_temperature;
  bool softmax_over_all, detach_gate;
};

template <class A>
struct RowStatistics {
  A top, scale;  // largest logit of the softmax's support, 1 / sum of exp((z - top) / tau) over it
};

// Sixteen running sums, brought together as a tree at the end: they vectorise as they are written.
template <class A>
struct Lanes {
  A part[kLanes] = {};
  template <int32_t Width = kLanes / 2>
  CAR_INLINE A sum() {
    for (int32_t lane = 0; lane < Width; ++lane) part[lane] += part[lane + Width];
    if constexpr (Width > 1) return sum<Width / 2>();
    return part[0];
  }
};

// The true class is masked by its index: a store to one entry would hold up the next load of the vector around it.
CAR_INLINE int32_t left_out(int32_t y, bool softmax_over_all) { return softmax_over_all ? -1 : y; }

// e (p still to be multiplied by its scale) and g of car_math.h for padded logits. e is 0 beyond the last class and,
// where the softmax leaves it out, at y; g is 0 at y.
template <class A>
CAR_INLINE void numerators_and_gates(const A* z, int32_t classes, int32_t y, A top, const Surrogate<A>& o, A* e, A* g) {
  const int32_t n = padded(classes), without = left_out(y, o.softmax_over_all);
  const A lowest = std::numeric_limits<A>::lowest(), inv_temperature = o.inv_temperature, gamma = o.gamma;
  const A z_true = z[y] < lowest ? lowest : z[y];  // a masked (-inf) logit counts as the lowest finite one
  if (inv_temperature == A(1)) {
    const A cut = exponential(z_true - gamma - top);
#pragma omp simd
    for (int32_t i = 0; i < n; ++i) {
      const A e_i = exponential(z[i] - top), g_i = gate_from_numerator(e_i, cut);
      e[i] = i < classes && i != without ? e_i : A(0);
      g[i] = i != y ? g_i : A(0);
    }
  } else {
#pragma omp simd
    for (int32_t i = 0; i < n; ++i) {
      const A e_i = exponential((z[i] - top) * inv_temperature), g_i = gate(z[i], z_true, gamma);
      e[i] = i < classes && i != without ? e_i : A(0);
      g[i] = i != y ? g_i : A(0);
    }
  }
}

// v of one row to v; e and g are scratch. All rows are padded, z with the lowest number. False if z holds NaN or +inf.
template <class A>
CAR_INLINE bool surrogate(const A* z, int32_t classes, int32_t y, const Surrogate<A>& o, RowStatistics<A>& row, A* e,
                          A* g, A* v) {
  const int32_t n = padded(classes), without = left_out(y, o.softmax_over_all);
  const A lowest = std::numeric_limits<A>::lowest();
  A top = lowest;
#pragma omp simd reduction(max : top)
  for (int32_t i = 0; i < n; ++i) {
    const A z_i = i == without ? lowest : z[i];
    top = std::max(top, z_i);
  }
  numerators_and_gates(z, classes, y, top, o, e, g);
  Lanes<A> sums;
  for (int64_t i = 0; i < n; i += kLanes)
    for (int64_t lane = 0; lane < kLanes; ++lane) sums.part[lane] += e[i + lane];
  const A sum = sums.sum(), scale = A(1) / sum;
  // NaN and +inf make some e NaN, and with it the sum; at y they may have been left out of it.
  if (!(sum > 0) || !(z[y] <= std::numeric_limits<A>::max())) return false;
  row = {top, scale};
#pragma omp simd
  for (int32_t i = 0; i < n; ++i) v[i] = e[i] * scale * g[i];
  return true;
}

// Gradient of s * sum_i u_i v_i to dz; e and g are scratch. u is zero beyond the last class.
template <class A>
CAR_INLINE void gradient(const A* z, int32_t classes, int32_t y, const Surrogate<A>& o, const RowStatistics<A>& row,
                         const A* u, A s, A* e, A* g, A* dz) {
  const int32_t n = padded(classes);
  const A inv_temperature = o.inv_temperature, scale = row.scale;
  const bool detach_gate = o.detach_gate;
  numerators_and_gates(z, classes, y, row.top, o, e, g);
  Lanes<A> alongs, slopes;
  for (int64_t i = 0; i < n; i += kLanes)
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      const A u_i = u[i + lane], p_i = e[i + lane] * scale, g_i = g[i + lane];
      alongs.part[lane] += u_i * p_i * g_i;
      slopes.part[lane] += u_i * gate_slope(p_i, g_i, false);
    }
  const A along = alongs.sum();                                // sum_i u_i v_i
  const A true_part = detach_gate ? A(0) : s * slopes.sum();   // s sum_i u_i p_i g_i (1 - g_i)
#pragma omp simd
  for (int32_t i = 0; i < n; ++i) {
    const A others = logit_gradient(s, u[i], e[i] * scale, g[i], along, inv_temperature, detach_gate);
    dz[i] = others - (i == y ? true_part : A(0));
  }
}

template <class A>
CAR_INLINE A dot(const A* x, const A* y, int64_t n) {
  Lanes<A> sums;
  const int64_t whole = n - n % kLanes;
  for (int64_t i = 0; i < whole; i += kLanes)
    for (int64_t lane = 0; lane < kLanes; ++lane) sums.part[lane] += x[i + lane] * y[i + lane];
  A rest = 0;  // beside the lanes: added to one of them, it would hold up the load of the whole vector
  for (int64_t i = whole; i < n; ++i) rest += x[i] * y[i];
  return sums.sum() + rest;
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

// One multiversioned entry a scalar type: target_clones does not apply to templates. No operator uses them all.
#pragma GCC diagnostic ignored "-Wunused-function"
#define CAR_VECTOR_ENTRIES(A)                                                                                          \
  CAR_CLONES static bool surrogate_row(const A* z, int64_t classes, int64_t y, const Surrogate<A>& o,                  \
                                       RowStatistics<A>& row, A* e, A* g, A* v) {                                      \
    return surrogate(z, classes, y, o, row, e, g, v);                                                                  \
  }                                                                                                                    \
  CAR_CLONES static void gradient_row(const A* z, int64_t classes, int64_t y, const Surrogate<A>& o,                   \
                                      const RowStatistics<A>& row, const A* u, A s, A* e, A* g, A* dz) {               \
    gradient(z, classes, y, o, row, u, s, e, g, dz);                                                                   \
  }                                                                                                                    \
  /* Row of M^T: returns c = d (row . q) and adds d c row to out, the row's part of M M^T q; one read of memory. */    \
  CAR_CLONES static A gram_row(const A* row, const A* q, A d, int64_t n, A* out) {                                     \
    const A c = d * dot(row, q, n);                                                                                    \
    add_scaled(out, d * c, row, n);                                                                                    \
    return c;                                                                                                          \
  }                                                                                                                    \
  CAR_CLONES static A dot_of(const A* x, const A* y, int64_t n) { return dot(x, y, n); }                               \
  CAR_CLONES static void add_to(A* out, A factor, const A* x, int64_t n) { add_scaled(out, factor, x, n); }            \
  CAR_CLONES static void scale_by(A* x, A factor, int64_t n) { scale(x, factor, n); }

CAR_VECTOR_ENTRIES(float)
CAR_VECTOR_ENTRIES(double)
#undef CAR_VECTOR_ENTRIES

}  // namespace car::vector
