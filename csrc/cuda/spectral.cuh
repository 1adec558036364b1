// The Lanczos process of csrc/cpu/lanczos.h on M = ema^T diag(column_scale), by the whole grid or by each block alone.
//
// A block owns a share of the classes: rows of ema, and the same entries of every vector of K. Two waits an iteration:
//   product   each block, from its rows: t = M^T q (its entries) and its part of M t; a row is read once for both
//   -- wait
//   collect   each block, for its entries: M t = the sum of the parts, and its part of the overlaps with the basis
//   -- wait
//   next      every block for itself: the overlaps' sums, the next basis vector, the small problem, whether to stop
// As every block does the same arithmetic in `next`, all come to the same bits, and stop together.
#pragma once

#include "classes.cuh"
#include "tridiagonal.cuh"

namespace car {

template <class T, class A>
struct Team {
  const StepArguments<T, A>& a;
  const OnChip<T, A>& chip;
  int64_t rank, size;
  Range own;
  A *q, *sums, *basis, *images, *next, *overlaps, *partials, *pull;

  __device__ Team(const StepArguments<T, A>& a_, const OnChip<T, A>& chip_) : a(a_), chip(chip_) {
    const bool alone = a.plan.alone;
    rank = alone ? 0 : blockIdx.x;
    size = alone ? 1 : gridDim.x;
    own = share_of(a.classes, rank, size);
    q = a.plan.vectors ? chip.q : a.vectors + rank * a.classes;
    sums = a.plan.vectors ? chip.sums : a.partials + rank * a.classes;
    basis = alone ? chip.basis : a.basis;
    images = alone ? chip.images : a.images;
    next = alone ? chip.next : a.next;
    pull = alone ? chip.pull : a.pull;
    overlaps = alone ? chip.scratch->overlap_parts : a.overlaps;
    partials = alone ? chip.sums : a.partials;
  }

  __device__ void wait() const {
    if (size == 1) __syncthreads();
    else grid_sync();
  }

  __device__ bool owns(int64_t i) const { return i >= own.from && i < own.to; }
};

// Rows [from, to) of this block's share, brought on chip where there is room; `rows` of them lie one after another.
template <class T, class A>
__device__ void product_of_rows(const Team<T, A>& team, const A* rows, Range tile, A* images) {
  const StepArguments<T, A>& a = team.a;
  const OnChip<T, A>& chip = team.chip;
  const int64_t n = a.classes, count = tile.size();
  const Split split = split_of(count, n);
  for (int64_t item = warp_id(); item < count * split.parts; item += warp_count()) {
    const int64_t from = item % split.parts * split.width, to = from + split.width < n ? from + split.width : n;
    const A* row = rows + item / split.parts * n;
    A sum = 0;
#pragma unroll 8
    for (int64_t i = from + lane_id(); i < to; i += 32) sum += row[i] * team.q[i];
    sum = warp_sum(sum);
    if (lane_id() == 0) chip.partial_dots[item] = sum;
  }
  __syncthreads();
  for (int64_t r = threadIdx.x; r < count; r += blockDim.x) {
    A dot = 0;
    for (int64_t part = 0; part < split.parts; ++part) dot += chip.partial_dots[r * split.parts + part];
    const A scale = a.column_scale[tile.from + r], image = scale * dot;
    images[tile.from + r] = image;
    chip.factor[r] = scale * image;
  }
  __syncthreads();
  for (int64_t i = threadIdx.x; i < n; i += blockDim.x) {
    A sum = team.sums[i];
#pragma unroll 4
    for (int64_t r = 0; r < count; ++r) sum += chip.factor[r] * rows[r * n + i];
    team.sums[i] = sum;
  }
  __syncthreads();  // the rows' place may be filled anew
}

// M^T q to `images` (own entries) and this block's part of M M^T q to team.sums. On the first call of a launch the
// rows come on chip if they stay there, and where the plan has the update and the iteration in one launch, the moving
// average is brought up to date on the way.
template <class T, class A>
__device__ void product(const Team<T, A>& team, A* images, bool first, const Members& entering) {
  const StepArguments<T, A>& a = team.a;
  const OnChip<T, A>& chip = team.chip;
  const int64_t n = a.classes, rows = a.plan.tile_rows;
  const int buffers = a.plan.buffers;
  for (int64_t i = threadIdx.x; i < n; i += blockDim.x) team.sums[i] = 0;
  const auto tile_at = [&](int64_t from) { return Range{from, from + rows < team.own.to ? from + rows : team.own.to}; };
  const auto place_of = [&](int64_t from) {
    if (buffers == 0) return a.ema + from * n;
    const int64_t buffer = (from - team.own.from) / rows % buffers;
    return chip.tile + buffer * a.places.tile_stride + alignment_shift(a.ema + from * n);
  };
  const auto fetch = [&](int64_t from) {
    if (buffers == 0 || from >= team.own.to || (buffers == 1 && !first)) return;
    const A* source = a.ema + from * n;
    start_copy(place_of(from) - alignment_shift(source), source, tile_at(from).size() * n);
  };
  fetch(team.own.from);
  for (int64_t from = team.own.from; from < team.own.to; from += rows) {
    const bool more = from + rows < team.own.to && buffers == 2;
    if (more) fetch(from + rows);
    if (more) __pipeline_wait_prior(1);
    else __pipeline_wait_prior(0);
    __syncthreads();
    const Range tile = tile_at(from);
    if (first && a.plan.together && !a.plan.alone) update_classes(a, chip, entering, tile, place_of(from));
    product_of_rows(team, place_of(from), tile, images);
  }
}

// The sum of all blocks' parts at the own entries, and the own part of its overlaps with basis vectors 0..k.
template <class T, class A>
__device__ void collect(const Team<T, A>& team, int k) {
  const int64_t n = team.a.classes;
  for (int64_t i = team.own.from + warp_id(); i < team.own.to; i += warp_count()) {
    A sum = 0;
#pragma unroll 8
    for (int64_t part = lane_id(); part < team.size; part += 32) sum += team.partials[part * n + i];
    sum = warp_sum(sum);
    if (lane_id() == 0) team.next[i] = sum;
  }
  __syncthreads();
  for (int e = warp_id(); e <= k; e += warp_count()) {
    A sum = 0;
    for (int64_t i = team.own.from + lane_id(); i < team.own.to; i += 32) sum += team.next[i] * team.basis[e * n + i];
    sum = warp_sum(sum);
    if (lane_id() == 0) team.overlaps[team.rank * kMaxSubspace + e] = sum;
  }
}

// q = the unit vector along q, of which the own entries enter the basis as vector k.
template <class T, class A>
__device__ void enter_basis(const Team<T, A>& team, int k, A length) {
  for (int64_t i = threadIdx.x; i < team.a.classes; i += blockDim.x) {
    const A unit = team.q[i] / length;
    team.q[i] = unit;
    if (team.owns(i)) team.basis[k * team.a.classes + i] = unit;
  }
  __syncthreads();
}

// Squares are taken of q / size, so that they stay in A's range where those of q might not.
template <class T, class A>
__device__ A length_of_q(const Team<T, A>& team, A size = 1) {
  A square = 0;
  for (int64_t i = threadIdx.x; i < team.a.classes; i += blockDim.x) square += (team.q[i] / size) * (team.q[i] / size);
  return size * sqrt(block_sum(square, team.chip.scratch->slots));
}

// Where the iteration starts. Called before the launch's first wait: some block may write `direction` after its last.
template <class T, class A>
__device__ void start_vector(const Team<T, A>& team) {
  const A blur = static_cast<A>(0.01 / sqrt(static_cast<double>(team.a.classes)));
  for (int64_t i = threadIdx.x; i < team.a.classes; i += blockDim.x) team.q[i] = fabs(team.a.direction[i]) + blur;
  __syncthreads();
}

// q = from less its parts along basis vectors 0..k, of which scratch->overlap holds the lengths.
template <class T, class A>
__device__ void project_out(const Team<T, A>& team, const A* from, int k) {
  for (int64_t i = threadIdx.x; i < team.a.classes; i += blockDim.x) {
    A rest = from[i];
#pragma unroll 4
    for (int e = k; e >= 0; --e) rest -= team.chip.scratch->overlap[e] * team.basis[e * team.a.classes + i];
    team.q[i] = rest;
  }
  __syncthreads();
}

// Where little is left of q, much of it is the rounding of what was taken away, and lies along the basis again. Every
// block sees the whole of q and does the same.
template <class T, class A>
__device__ void project_out_again(const Team<T, A>& team, int k) {
  for (int e = warp_id(); e <= k; e += warp_count()) {
    const A* vector = team.basis + e * team.a.classes;
    A sum = 0;
#pragma unroll 1  // more would spill
    for (int64_t i = lane_id(); i < team.a.classes; i += 32) sum += team.q[i] * vector[i];
    sum = warp_sum(sum);
    if (lane_id() == 0) team.chip.scratch->overlap[e] = sum;
  }
  __syncthreads();
  project_out(team, team.q, k);
}

template <class T, class A>
__device__ void spectral_norm(const Team<T, A>& team, const Members& entering) {
  const StepArguments<T, A>& a = team.a;
  Scratch<A>* m = team.chip.scratch;
  const int64_t n = a.classes;
  const int subspace = static_cast<int>(n < kMaxSubspace ? n : kMaxSubspace);
  const double epsilon = sizeof(A) == 8 ? 2.220446049250313e-16 : 1.1920929e-7;
  const double floor = sizeof(A) == 8 ? 2.2250738585072014e-308 : 1.17549435e-38;

  double sigma = 0, error = 0;
  int64_t iterations = 0;
  int used = 0;  // basis vectors in the answer; 0 where M = 0 or not finite
  bool finite = true;
  for (bool done = false; !done;) {  // one pass a Krylov space; a second one only if the first was not enough
    enter_basis(team, 0, length_of_q(team));
    for (int k = 0; k < subspace; ++k) {
      product(team, team.images + k * n, iterations == 0, entering);
      if (!a.plan.alone && a.plan.vectors)
        for (int64_t i = threadIdx.x; i < n; i += blockDim.x) team.partials[team.rank * n + i] = team.sums[i];
      team.wait();
      collect(team, k);
      team.wait();
      ++iterations;
      for (int e = warp_id(); e <= k; e += warp_count()) {
        A sum = 0;
        for (int64_t part = lane_id(); part < team.size; part += 32) sum += team.overlaps[part * kMaxSubspace + e];
        sum = warp_sum(sum);
        if (lane_id() == 0) m->overlap[e] = sum;
      }
      __syncthreads();
      const A along = m->overlap[k];
      finite = along - along == 0;
      if (!finite || (k == 0 && !(along > floor))) {  // M = 0, as far as this type can tell
        done = true;
        used = 0;
        break;
      }
      const A scale = k == 0 ? along : static_cast<A>(m->diagonal[0]);
      project_out(team, team.next, k);
      A rest = length_of_q(team, scale);
      const A before = k == 0 ? A(0) : static_cast<A>(m->off_diagonal[k - 1]);  // the only other overlap but rounding
      if (rest < A(0.1) * (along + before)) {
        project_out_again(team, k);
        rest = length_of_q(team, scale);
      }
      if (threadIdx.x == 0) {
        m->diagonal[k] = along;
        m->off_diagonal[k] = rest;
      }
      const bool exhausted = rest <= 4 * epsilon * scale;
      const bool last = exhausted || k + 1 == subspace || iterations == a.max_iterations;
      if (last || k >= 2) {
        top_ritz_pair_by_block(m, k + 1);
        const double gap = m->top - m->runner_up, residual = rest * fabs(m->s[k]);
        error = exhausted ? 0. : residual / (gap > 1e-300 ? gap : 1e-300);
        error = error < 1. ? error : 1.;
        sigma = sqrt(m->top);
        done = exhausted || k + 1 == n || error <= a.tolerance || iterations >= a.max_iterations;
        if (done || last) {
          used = k + 1;
          break;
        }
      }
      enter_basis(team, k + 1, rest);
    }
    if (used == 0) break;
    for (int64_t i = threadIdx.x; i < n; i += blockDim.x) {
      A sum = 0;
      for (int e = 0; e < used; ++e) sum += static_cast<A>(m->s[e]) * team.basis[e * n + i];
      team.q[i] = sum;
    }
    if (!done) team.wait();  // every block has read the basis that the next pass writes
  }

  const A length = used > 0 ? length_of_q(team) : A(1);
  for (int64_t i = threadIdx.x; i < n; i += blockDim.x) {
    const A u = team.q[i] / length;
    team.q[i] = u;
    if (used > 0 && (a.plan.alone ? blockIdx.x == 0 : team.owns(i))) a.direction[i] = u;
  }
  for (int64_t j = team.own.from + threadIdx.x; j < team.own.to; j += blockDim.x) {
    A w = finite ? A(0) : A(NAN);  // w = 0 where M = 0
    for (int e = 0; e < used; ++e) w += static_cast<A>(m->s[e] / sigma) * team.images[e * n + j];
    team.pull[j] = a.coefficient[j] * w;
    if (a.other_direction && (!a.plan.alone || blockIdx.x == 0)) a.other_direction[j] = w;
  }
  if (blockIdx.x == 0) {
    const bool bad = any_unusable(a, m->counts);
    if (threadIdx.x == 0) {
      *a.sigma = bad || !finite ? A(NAN) : static_cast<A>(used > 0 ? sigma : 0.);
      *a.spectral_error = static_cast<A>(error);
    }
  }
  __syncthreads();
}

}  // namespace car
