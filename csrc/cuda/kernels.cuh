// The CUDA kernels of car_ext::car_step, free of torch so that the very same source also runs on a CPU under the
// tests' shim (tests/cuda_shim). Four launches: row statistics, class update, spectral norm, gradient.
//
// Deterministic: every sum belongs to one thread or to one fixed tree; no atomics. No host synchronisation: what
// depends on the data (absent classes, convergence, NaN) is decided here.
//
// A sample whose logits hold NaN or +inf cannot raise from a kernel: it is left out of the moving average, its
// gradient and sigma become NaN, and the state stays whole, so a skipped step (as a gradient scaler does) heals it.
#pragma once

#include "../tridiagonal.h"

namespace car {

constexpr int kRowThreads = 128;
constexpr int kClassThreads = 128;
constexpr int kSpectralThreads = 512;

template <class T, class A>
struct StepArguments {
  const T* logits;
  const int64_t* targets;
  const A* sample_weights;  // or null
  const A* class_weights;
  A* ema;  // (K, K), row = true class
  int64_t* updates;
  A* direction;
  A* spectral_error;
  A* sigma;
  T* grad;  // contiguous in the logits' shape
  int64_t samples, classes, spatial, stride_n, stride_k, stride_s;
  A beta, gamma, inv_temperature;
  double beta_exact, tolerance;
  bool softmax_over_all, detach_gate, start_from_first_batch, hold_absent, debias;
  int64_t ignore_index, max_iterations;
  // workspace
  A* row_top;       // (B) largest logit of the softmax's support; NaN marks a row that cannot be used
  A* row_scale;     // (B) 1 / sum of exponentials
  A* column_scale;  // (K) lambda_j / filled share
  A* coefficient;   // (K) what a sample of class j enters the top triple with: share * scale_j / n_j, times w_j later
  A* left;          // (K) u
  A* basis;         // (kMaxSubspace, K)
  A* images;        // (kMaxSubspace, K) M^T basis
  A* next;          // (K)
};

template <class A> CAR_HD A lowest_of();
template <> CAR_HD float lowest_of<float>() { return -3.402823466e38f; }
template <> CAR_HD double lowest_of<double>() { return -1.7976931348623157e308; }

template <class T, class A>
__device__ A logit_at(const StepArguments<T, A>& a, int64_t sample, int64_t i) {
  return static_cast<A>(a.logits[sample / a.spatial * a.stride_n + i * a.stride_k + sample % a.spatial * a.stride_s]);
}

template <class A>
__device__ A warp_sum(A x) {
  for (int offset = 16; offset > 0; offset /= 2) x += __shfl_xor_sync(0xffffffffu, x, offset);
  return x;
}
template <class A>
__device__ A warp_max(A x) {
  for (int offset = 16; offset > 0; offset /= 2) {
    const A other = __shfl_xor_sync(0xffffffffu, x, offset);
    x = other > x ? other : x;
  }
  return x;
}

// Over the block, in a fixed order; every thread gets the result. `slots` holds one value a warp.
template <class A>
__device__ A block_sum(A x, A* slots) {
  x = warp_sum(x);
  __syncthreads();  // the slots may still be read from the last call
  if (threadIdx.x % 32 == 0) slots[threadIdx.x / 32] = x;
  __syncthreads();
  A total = 0;
  for (int i = 0; i < static_cast<int>(blockDim.x / 32); ++i) total += slots[i];
  return total;
}
template <class A>
__device__ A block_max(A x, A* slots) {
  x = warp_max(x);
  __syncthreads();
  if (threadIdx.x % 32 == 0) slots[threadIdx.x / 32] = x;
  __syncthreads();
  A top = slots[0];
  for (int i = 1; i < static_cast<int>(blockDim.x / 32); ++i) top = slots[i] > top ? slots[i] : top;
  return top;
}

// p_i and g_i (car_math.h) of one element, i any class, from the row's statistics.
template <class T, class A>
__device__ void probability_and_gate(const StepArguments<T, A>& a, A z_i, A z_true, A top, A scale, bool is_true, A& p, A& g) {
  const A e = exponential((z_i - top) * a.inv_temperature);
  p = is_true && !a.softmax_over_all ? A(0) : e * scale;
  if (is_true) g = 0;
  else if (a.inv_temperature == A(1)) g = gate_from_numerator(e, exponential(z_true - a.gamma - top));
  else g = gate(z_i, z_true, a.gamma);
}

template <class T, class A>
__device__ A true_logit(const StepArguments<T, A>& a, int64_t sample) {
  const A z = logit_at(a, sample, a.targets[sample]);
  return z > lowest_of<A>() ? z : lowest_of<A>();
}

template <class T, class A>
__device__ bool takes_part(const StepArguments<T, A>& a, int64_t sample) {
  const int64_t y = a.targets[sample];
  return y != a.ignore_index && y >= 0 && y < a.classes;
}

// 1. One block a sample: the softmax's maximum and normaliser.
template <class T, class A>
__global__ void row_statistics(StepArguments<T, A> a) {
  __shared__ A slots[32];
  for (int64_t q = blockIdx.x; q < a.samples; q += gridDim.x) {
    if (a.targets[q] == a.ignore_index) continue;  // the whole block agrees
    const bool in_range = takes_part(a, q);
    const int64_t skip = a.softmax_over_all ? -1 : a.targets[q];
    A top = lowest_of<A>(), bad = in_range ? A(0) : A(1);
    for (int64_t i = threadIdx.x; i < a.classes; i += blockDim.x) {
      const A z = logit_at(a, q, i);
      if (!(z <= -lowest_of<A>())) bad = 1;
      if (i != skip && z > top) top = z;
    }
    top = block_max(top, slots);
    bad = block_max(bad, slots);
    A sum = 0;
    for (int64_t i = threadIdx.x; i < a.classes; i += blockDim.x)
      if (i != skip) sum += exponential((logit_at(a, q, i) - top) * a.inv_temperature);
    sum = block_sum(sum, slots);
    if (threadIdx.x == 0) {
      a.row_top[q] = bad > 0 ? A(NAN) : top;
      a.row_scale[q] = A(1) / sum;
    }
  }
}

template <class T, class A>
__device__ bool is_member(const StepArguments<T, A>& a, int64_t q, int64_t j) {
  return a.targets[q] == j && j != a.ignore_index && a.row_top[q] == a.row_top[q];
}

// 2. One block a class: its column of the moving average (a row in memory), in place.
template <class T, class A>
__global__ void class_update(StepArguments<T, A> a) {
  __shared__ double slots[32];
  __shared__ int64_t members[kClassThreads];
  __shared__ int flags[kClassThreads];
  for (int64_t j = blockIdx.x; j < a.classes; j += gridDim.x) {
    double mass = 0;
    for (int64_t q = threadIdx.x; q < a.samples; q += blockDim.x)
      if (is_member(a, q, j)) mass += a.sample_weights ? static_cast<double>(a.sample_weights[q]) : 1.;
    mass = block_sum(mass, slots);
    const bool absent = !(mass > 0), held = absent && a.hold_absent;
    const int64_t count = a.updates[j] + (held ? 0 : 1);
    const bool first = a.start_from_first_batch && a.updates[j] == 0;
    const A keep = held ? A(1) : (first ? A(0) : a.beta), take = first ? A(1) : A(1) - a.beta;
    A* row = a.ema + j * a.classes;
    if (!held)
      for (int64_t i = threadIdx.x; i < a.classes; i += blockDim.x) row[i] *= keep;
    for (int64_t from = 0; !absent && from < a.samples; from += blockDim.x) {
      const int64_t q = from + threadIdx.x;
      const bool mine = q < a.samples && is_member(a, q, j);
      __syncthreads();  // the last chunk's list is still being read
      flags[threadIdx.x] = mine;
      __syncthreads();
      int rank = 0, listed = 0;
      for (int t = 0; t < static_cast<int>(blockDim.x); ++t) {
        rank += t < static_cast<int>(threadIdx.x) ? flags[t] : 0;
        listed += flags[t];
      }
      if (mine) members[rank] = q;
      __syncthreads();
      for (int64_t i = threadIdx.x; listed > 0 && i < a.classes; i += blockDim.x) {
        A sum = row[i];
        for (int m = 0; m < listed; ++m) {
          const int64_t s = members[m];
          A p, g;
          probability_and_gate(a, logit_at(a, s, i), true_logit(a, s), a.row_top[s], a.row_scale[s], i == j, p, g);
          sum += static_cast<A>(take / mass * (a.sample_weights ? a.sample_weights[s] : A(1))) * p * g;
        }
        row[i] = sum;
      }
    }
    __syncthreads();  // every thread has read updates[j]
    if (threadIdx.x == 0) {
      a.updates[j] = count;
      const A scale = static_cast<A>(a.class_weights[j] / (a.debias ? filled_share(a.beta_exact, count) : 1.));
      a.column_scale[j] = scale;
      a.coefficient[j] = absent || first ? A(0) : static_cast<A>(take * scale / mass);
    }
  }
}

// 3. One block: the Lanczos process of csrc/cpu/lanczos.h, on M = ema^T diag(column_scale).
template <class T, class A>
__global__ void spectral(StepArguments<T, A> a) {
  __shared__ A slots[32];
  __shared__ double diagonal[kMaxSubspace], off_diagonal[kMaxSubspace], s[kMaxSubspace];
  __shared__ RitzPair ritz;
  const int64_t n = a.classes;
  const int subspace = static_cast<int>(n < kMaxSubspace ? n : kMaxSubspace);
  const double epsilon = sizeof(A) == 8 ? 2.220446049250313e-16 : 1.1920929e-7;
  const double floor = sizeof(A) == 8 ? 2.2250738585072014e-308 : 1.17549435e-38;

  const auto dot = [&](const A* x, const A* y) {
    A sum = 0;
    for (int64_t i = threadIdx.x; i < n; i += blockDim.x) sum += x[i] * y[i];
    return block_sum(sum, slots);
  };

  A bad = 0;
  for (int64_t q = threadIdx.x; q < a.samples; q += blockDim.x)
    if (a.targets[q] != a.ignore_index && !(a.row_top[q] == a.row_top[q])) bad = 1;
  bad = block_sum(bad, slots);

  const A blur = static_cast<A>(0.01 / sqrt(static_cast<double>(n)));
  for (int64_t i = threadIdx.x; i < n; i += blockDim.x) a.left[i] = fabs(a.direction[i]) + blur;
  A length = sqrt(dot(a.left, a.left));
  for (int64_t i = threadIdx.x; i < n; i += blockDim.x) a.left[i] /= length;

  double sigma = 0, error = 0;
  int64_t iterations = 0;
  for (bool done = false; !done;) {
    for (int64_t i = threadIdx.x; i < n; i += blockDim.x) a.basis[i] = a.left[i];
    int used = 0;
    for (int k = 0; k < subspace; ++k) {
      const A* q_k = a.basis + static_cast<int64_t>(k) * n;
      A* t = a.images + static_cast<int64_t>(k) * n;
      __syncthreads();
      for (int64_t j = threadIdx.x / 32; j < n; j += blockDim.x / 32) {  // a warp a row; whole warps agree on j
        A sum = 0;
        for (int64_t i = threadIdx.x % 32; i < n; i += 32) sum += a.ema[j * n + i] * q_k[i];
        sum = warp_sum(sum);
        if (threadIdx.x % 32 == 0) t[j] = a.column_scale[j] * sum;
      }
      __syncthreads();
      for (int64_t i = threadIdx.x; i < n; i += blockDim.x) {
        A sum = 0;
        for (int64_t j = 0; j < n; ++j) sum += a.ema[j * n + i] * (a.column_scale[j] * t[j]);
        a.next[i] = sum;
      }
      ++iterations;
      const A along = dot(q_k, a.next);
      if (k == 0 && !(along > floor)) {  // M = 0
        done = true;
        break;
      }
      for (int earlier = k; earlier >= 0; --earlier) {
        const A* q = a.basis + static_cast<int64_t>(earlier) * n;
        const A overlap = dot(q, a.next);
        for (int64_t i = threadIdx.x; i < n; i += blockDim.x) a.next[i] -= overlap * q[i];
      }
      const A rest = sqrt(dot(a.next, a.next));
      if (threadIdx.x == 0) {
        diagonal[k] = along;
        off_diagonal[k] = rest;
      }
      __syncthreads();
      const bool exhausted = rest <= 4 * epsilon * diagonal[0];
      const bool last = exhausted || k + 1 == subspace || iterations == a.max_iterations;
      if (last || (k >= 2 && k % 2 == 0)) {
        if (threadIdx.x == 0) ritz = top_ritz_pair(diagonal, off_diagonal, k + 1, s);
        __syncthreads();
        const double gap = ritz.value - ritz.runner_up, residual = off_diagonal[k] * fabs(s[k]);
        error = exhausted ? 0. : residual / (gap > 1e-300 ? gap : 1e-300);
        error = error < 1. ? error : 1.;
        sigma = sqrt(ritz.value);
        done = exhausted || k + 1 == n || error <= a.tolerance || iterations >= a.max_iterations;
        if (done || last) {
          used = k + 1;
          break;
        }
      }
      for (int64_t i = threadIdx.x; i < n; i += blockDim.x) a.basis[static_cast<int64_t>(k + 1) * n + i] = a.next[i] / rest;
    }
    if (used > 0) {
      for (int64_t i = threadIdx.x; i < n; i += blockDim.x) {
        A sum = 0;
        for (int k = 0; k < used; ++k) sum += static_cast<A>(s[k]) * a.basis[static_cast<int64_t>(k) * n + i];
        a.left[i] = sum;
      }
      length = sqrt(dot(a.left, a.left));
      for (int64_t i = threadIdx.x; i < n; i += blockDim.x) a.left[i] /= length;
    }
    if (done && used == 0) sigma = 0;
    if (done) {
      for (int64_t j = threadIdx.x; j < n; j += blockDim.x) {
        A w = 0;
        for (int k = 0; k < used; ++k) w += static_cast<A>(s[k] / sigma) * a.images[static_cast<int64_t>(k) * n + j];
        a.coefficient[j] *= w;  // w = 0 where M = 0
        if (used > 0) a.direction[j] = a.left[j];
      }
    }
    __syncthreads();
  }
  if (threadIdx.x == 0) {
    *a.sigma = bad > 0 ? A(NAN) : static_cast<A>(sigma);
    *a.spectral_error = static_cast<A>(error);
  }
}

// 4. One block a sample: d sigma / d logits.
template <class T, class A>
__global__ void gradient(StepArguments<T, A> a) {
  __shared__ A slots[32];
  for (int64_t q = blockIdx.x; q < a.samples; q += gridDim.x) {
    T* out = a.grad + q / a.spatial * a.classes * a.spatial + q % a.spatial;
    const int64_t y = a.targets[q];
    const bool usable = takes_part(a, q) && a.row_top[q] == a.row_top[q];
    const A blank = usable || y == a.ignore_index ? A(0) : A(NAN);
    const A c = usable ? a.coefficient[y] * (a.sample_weights ? a.sample_weights[q] : A(1)) : A(0);
    if (c == 0) {  // the whole block agrees
      for (int64_t i = threadIdx.x; i < a.classes; i += blockDim.x) out[i * a.spatial] = static_cast<T>(blank);
      continue;
    }
    const A z_true = true_logit(a, q), top = a.row_top[q], scale = a.row_scale[q];
    A along = 0, true_slope = 0, p, g;
    for (int64_t i = threadIdx.x; i < a.classes; i += blockDim.x) {
      probability_and_gate(a, logit_at(a, q, i), z_true, top, scale, i == y, p, g);
      along += a.left[i] * p * g;
      true_slope += a.left[i] * gate_slope(p, g, a.detach_gate);
    }
    along = block_sum(along, slots);
    true_slope = block_sum(true_slope, slots);
    for (int64_t i = threadIdx.x; i < a.classes; i += blockDim.x) {
      probability_and_gate(a, logit_at(a, q, i), z_true, top, scale, i == y, p, g);
      const A dz = logit_gradient(c, a.left[i], p, g, along, a.inv_temperature, a.detach_gate);
      out[i * a.spatial] = static_cast<T>(i == y ? dz - c * true_slope : dz);
    }
  }
}

}  // namespace car
