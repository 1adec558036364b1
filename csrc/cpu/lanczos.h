// Largest singular value and vectors of a nonnegative K x K matrix M by the Lanczos process on M M^T.
//
// Each step reads M once: `apply(q, t, out)` must write t = M^T q and out = M t. The Krylov space starts from last
// step's vector plus a little of the all-ones one, so it can never be blind to a direction the matrix has newly grown
// (M >= 0, so by Perron-Frobenius the top pair is nonnegative and all-ones overlaps it).
#pragma once

#include <memory>
#include <vector>

#include "../tridiagonal.h"
#include "vector.h"

namespace car {

template <class A>
struct TopTriple {
  double sigma = 0;  // NaN where M or the start hold NaN or infinity, or numbers whose squares overflow
  double error = 0;  // estimated angle, in radians, between u and the true singular vector
  int64_t iterations = 0;
  std::vector<A> u, w;  // M w = sigma u, M^T u = sigma w, unit length; w = 0 when M = 0
};

template <class A>
void normalise(std::vector<A>& x) {
  const double norm = std::sqrt(static_cast<double>(vector::dot_of(x.data(), x.data(), x.size())));
  vector::scale_by(x.data(), static_cast<A>(1. / norm), x.size());
}

template <class A, class Apply>
TopTriple<A> top_singular(const A* warm_start, int64_t n, double tolerance, int64_t max_iterations,
                          const Apply& apply) {
  using namespace vector;
  const int subspace = static_cast<int>(std::min<int64_t>(n, kMaxSubspace));
  const double floor = std::numeric_limits<A>::min();
  const std::unique_ptr<A[]> q(new A[static_cast<size_t>(subspace) * n]), t(new A[static_cast<size_t>(subspace) * n]);
  std::vector<A> next(n);
  TopTriple<A> top;
  top.u.resize(n);
  top.w.assign(n, A(0));
  const A blur = static_cast<A>(0.01 / std::sqrt(static_cast<double>(n)));
  for (int64_t i = 0; i < n; ++i) top.u[i] = std::abs(warm_start[i]) + blur;
  normalise(top.u);

  const bool costly = n >= 256;  // reading the matrix costs more than the small problem: look after every iteration
  double diagonal[kMaxSubspace], off_diagonal[kMaxSubspace], s[kMaxSubspace];
  bool done = false;
  while (!done) {  // one pass a Krylov space; a second one only if the first was not enough
    std::copy(top.u.begin(), top.u.end(), q.get());
    for (int k = 0; k < subspace; ++k) {
      A* q_k = &q[static_cast<size_t>(k) * n];
      apply(q_k, &t[static_cast<size_t>(k) * n], next.data());
      ++top.iterations;
      diagonal[k] = dot_of(q_k, next.data(), n);
      if (!std::isfinite(diagonal[k])) {
        top.sigma = std::numeric_limits<double>::quiet_NaN();
        return top;
      }
      if (k == 0 && !(diagonal[0] > floor)) {  // M = 0, as far as this type can tell
        top.error = 0;
        return top;
      }
      for (int i = k; i >= 0; --i)  // against every earlier vector: the process loses orthogonality by itself
        add_to(next.data(), -dot_of(&q[static_cast<size_t>(i) * n], next.data(), n), &q[static_cast<size_t>(i) * n], n);
      scale_by(next.data(), static_cast<A>(1. / diagonal[0]), n);  // whose own square might leave A's range
      const double rest = std::sqrt(static_cast<double>(dot_of(next.data(), next.data(), n)));
      off_diagonal[k] = diagonal[0] * rest;

      const bool exhausted = rest <= 4 * std::numeric_limits<A>::epsilon();
      const bool last = exhausted || k + 1 == subspace || top.iterations == max_iterations;
      if (last || (k > 0 && (costly || k % 2 == 0))) {
        const RitzPair ritz = top_ritz_pair(diagonal, off_diagonal, k + 1, s);
        const double residual = off_diagonal[k] * std::abs(s[k]);
        top.error = exhausted ? 0. : std::min(1., residual / std::max(ritz.value - ritz.runner_up, 1e-300));
        done = exhausted || k + 1 == n || top.error <= tolerance || top.iterations >= max_iterations;
        if (done || last) {
          top.sigma = std::sqrt(ritz.value);
          std::fill(top.u.begin(), top.u.end(), A(0));
          std::fill(top.w.begin(), top.w.end(), A(0));
          for (int i = 0; i <= k; ++i) {
            add_to(top.u.data(), static_cast<A>(s[i]), &q[static_cast<size_t>(i) * n], n);
            add_to(top.w.data(), static_cast<A>(s[i] / top.sigma), &t[static_cast<size_t>(i) * n], n);
          }
          normalise(top.u);
          break;
        }
      }
      std::copy(next.begin(), next.end(), &q[static_cast<size_t>(k + 1) * n]);
      scale_by(&q[static_cast<size_t>(k + 1) * n], static_cast<A>(1. / rest), n);
    }
  }
  return top;
}

}  // namespace car
