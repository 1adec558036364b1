// Top eigenpair of the small symmetric tridiagonal matrix that the Lanczos process builds. No torch header in here.
#pragma once

#include "car_math.h"

namespace car {

constexpr int kMaxSubspace = 32;

// Diagonal a[0..n), off-diagonal b[0..n-1): how many eigenvalues exceed x (Sturm sequence).
CAR_HD int eigenvalues_above(const double* a, const double* b, int n, double x) {
  int count = 0;
  double pivot = 1;
  for (int i = 0; i < n; ++i) {
    pivot = a[i] - x - (i > 0 ? b[i - 1] * b[i - 1] / pivot : 0.);
    if (pivot == 0) pivot = -1e-300;
    count += pivot > 0;
  }
  return count;
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
  double bound = 0;  // Gershgorin
  for (int i = 0; i < n; ++i) {
    const double radius = (i > 0 ? fabs(b[i - 1]) : 0.) + (i + 1 < n ? fabs(b[i]) : 0.);
    const double reach = a[i] + radius;
    bound = reach > bound ? reach : bound;
  }
  RitzPair top{kth_eigenvalue(a, b, n, 1, 0., bound, 44), 0.};
  if (n > 1) top.runner_up = kth_eigenvalue(a, b, n, 2, 0., top.value, 12);

  // Inverse iteration on (value + a little) I - T, which is positive definite, so elimination needs no pivoting.
  const double shift = top.value + 1e-12 * bound;
  double upper[kMaxSubspace];
  for (int i = 0; i < n; ++i) s[i] = 1;
  for (int sweep = 0; sweep < 3; ++sweep) {
    double pivot = shift - a[0];
    s[0] /= pivot;
    for (int i = 1; i < n; ++i) {
      upper[i - 1] = -b[i - 1] / pivot;
      pivot = shift - a[i] + b[i - 1] * upper[i - 1];
      s[i] = (s[i] + b[i - 1] * s[i - 1]) / pivot;
    }
    for (int i = n - 2; i >= 0; --i) s[i] -= upper[i] * s[i + 1];
    double norm = 0;
    for (int i = 0; i < n; ++i) norm += s[i] * s[i];
    norm = 1. / sqrt(norm);
    for (int i = 0; i < n; ++i) s[i] *= norm;
  }
  return top;
}

}  // namespace car
