// Top eigenpair of the small symmetric tridiagonal matrix that the Lanczos process builds. No torch header in here.
#pragma once

#include "car_math.h"

namespace car {

constexpr int kMaxSubspace = 32;

// Diagonal a[0..n), off-diagonal b[0..n-1): how many eigenvalues exceed x. Signs of the leading minors of T - x I
// (Sturm): no division, so that the recurrence is short; both its terms are rescaled before they leave double's range.
CAR_HD int eigenvalues_above(const double* a, const double* b, int n, double x) {
  int count = 0;
  double last = 0, minor = 1;
  for (int i = 0; i < n; ++i) {
    double next = (a[i] - x) * minor - (i > 0 ? b[i - 1] * b[i - 1] * last : 0.);
    if (next == 0) next = minor > 0 ? -1e-300 : 1e-300;
    count += (next > 0) == (minor > 0);
    const double size = fabs(next), factor = size > 1e80 ? 1e-80 : (size < 1e-80 ? 1e80 : 1.);
    last = minor * factor;
    minor = next * factor;
  }
  return count;
}

CAR_HD double gershgorin_reach(const double* a, const double* b, int n, int i) {
  return a[i] + (i > 0 ? fabs(b[i - 1]) : 0.) + (i + 1 < n ? fabs(b[i]) : 0.);
}

// Pivots of x I - T, eliminated from either end. With the vector's largest entry at `twist` its others follow without
// cancellation: s_i = s_{i+1} b_i / down_i below it, s_i = s_{i-1} b_{i-1} / up_i above it.
CAR_HD double pivot_after(double difference, double coupling, double last) {
  const double pivot = difference - coupling * coupling / last;
  return pivot != 0 ? pivot : 1e-300;
}
CAR_HD void eliminate_down(const double* a, const double* b, int n, double x, double* pivots) {
  for (int i = 0; i < n; ++i) pivots[i] = pivot_after(x - a[i], i > 0 ? b[i - 1] : 0., i > 0 ? pivots[i - 1] : 1.);
}
CAR_HD void eliminate_up(const double* a, const double* b, int n, double x, double* pivots) {
  for (int i = n - 1; i >= 0; --i)
    pivots[i] = pivot_after(x - a[i], i + 1 < n ? b[i] : 0., i + 1 < n ? pivots[i + 1] : 1.);
}

// The k-th largest eigenvalue (k = 1 is the top), to `steps` bits of the bracket [lo, hi].
CAR_HD double kth_eigenvalue(const double* a, const double* b, int n, int k, double lo, double hi, int steps) {
  for (int i = 0; i < steps; ++i) {
    const double mid = 0.5 * (lo + hi);
    if (eigenvalues_above(a, b, n, mid) >= k) lo = mid; else hi = mid;
  }
  return 0.5 * (lo + hi);
}

struct RitzPair {
  double value;      // top eigenvalue
  double runner_up;  // second eigenvalue, to the accuracy a gap estimate needs; 0 when n = 1
};

// Writes the unit top eigenvector to s[0..n). The matrix is positive semi-definite here (a Gram matrix).
CAR_HD RitzPair top_ritz_pair(const double* a, const double* b, int n, double* s) {
  double bound = 0;
  for (int i = 0; i < n; ++i) {
    const double reach = gershgorin_reach(a, b, n, i);
    bound = reach > bound ? reach : bound;
  }
  RitzPair top{kth_eigenvalue(a, b, n, 1, 0., bound, 50), 0.};
  if (n > 1) top.runner_up = kth_eigenvalue(a, b, n, 2, 0., top.value, 12);

  double down[kMaxSubspace], up[kMaxSubspace];
  eliminate_down(a, b, n, top.value, down);
  eliminate_up(a, b, n, top.value, up);
  int twist = 0;
  double least = 1e300;
  for (int i = 0; i < n; ++i) {
    const double meeting = fabs(down[i] + up[i] - (top.value - a[i]));
    if (meeting < least) least = meeting, twist = i;
  }
  s[twist] = 1;
  for (int i = twist - 1; i >= 0; --i) s[i] = s[i + 1] * b[i] / down[i];
  for (int i = twist + 1; i < n; ++i) s[i] = s[i - 1] * b[i - 1] / up[i];
  double norm = 0;
  for (int i = 0; i < n; ++i) norm += s[i] * s[i];
  norm = 1. / sqrt(norm);
  for (int i = 0; i < n; ++i) s[i] *= norm;
  return top;
}

}  // namespace car
