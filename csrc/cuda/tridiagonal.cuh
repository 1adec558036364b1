// csrc/tridiagonal.h by a warp: where the CPU halves the bracket, 32 lanes test 32 points of it at once.
#pragma once

#include "arguments.cuh"

namespace car {

// The k-th largest eigenvalue; each round narrows the bracket 33 times.
__device__ inline double kth_eigenvalue_by_warp(const double* a, const double* b, int n, int k, double hi, int rounds) {
  double lo = 0;
  for (int i = 0; i < rounds; ++i) {
    const double step = (hi - lo) / 33;
    const unsigned above = __ballot_sync(kFullWarp, eigenvalues_above(a, b, n, lo + step * (lane_id() + 1)) >= k);
    const int passed = above == kFullWarp ? 32 : __ffs(~above) - 1;  // x_1 .. x_passed lie below the eigenvalue
    hi = passed < 32 ? lo + step * (passed + 1) : hi;
    lo += step * passed;
  }
  return 0.5 * (lo + hi);
}

// Top eigenvalue, a rough second one and the unit top eigenvector, all to `m`. Warps 0 and 1 work; ends in a barrier.
template <class A>
__device__ void top_ritz_pair_by_block(Scratch<A>* m, int n) {
  __syncthreads();
  const double *a = m->diagonal, *b = m->off_diagonal;
  if (warp_id() < 2) {
    const int i = lane_id();
    const double bound = warp_max(i < n ? gershgorin_reach(a, b, n, i) : 0.);
    if (warp_id() == 1) {
      const double second = n > 1 ? kth_eigenvalue_by_warp(a, b, n, 2, bound, 4) : 0.;
      if (i == 0) m->runner_up = second;
    } else {
      const double top = kth_eigenvalue_by_warp(a, b, n, 1, bound, sizeof(A) == 8 ? 10 : 7);
      if (i == 0) {
        m->top = top;
        eliminate_down(a, b, n, top, m->pivots_down);
      } else if (i == 1) {
        eliminate_up(a, b, n, top, m->pivots_up);
      }
      __syncwarp();
      // Where the two eliminations meet with the smallest pivot, the vector is largest.
      const double meeting = i < n ? fabs(m->pivots_down[i] + m->pivots_up[i] - (top - a[i])) : 1e300;
      const unsigned here = __ballot_sync(kFullWarp, meeting == -warp_max(-meeting));
      const int twist = here ? __ffs(here) - 1 : 0;
      double s = i == twist ? 1. : 0.;
      for (int j = twist - 1; j >= 0; --j) {
        const double next = __shfl_sync(kFullWarp, s, j + 1);
        if (i == j) s = next * b[j] / m->pivots_down[j];
      }
      for (int j = twist + 1; j < n; ++j) {
        const double last = __shfl_sync(kFullWarp, s, j - 1);
        if (i == j) s = last * b[j - 1] / m->pivots_up[j];
      }
      s /= sqrt(warp_sum(s * s));
      if (i < n) m->s[i] = s;
    }
  }
  __syncthreads();
}

}  // namespace car
