// What the kernel is given, how its work is cut over blocks (Plan) and what each block keeps on chip (OnChip).
#pragma once

#include <algorithm>
#include <cstddef>
#include <type_traits>

#include "../tridiagonal.h"
#include "block.cuh"

namespace car {

struct Range {
  int64_t from, to;
  CAR_HD int64_t size() const { return to - from; }
};

// Part `rank` of [0, n) cut into `parts`.
CAR_HD Range share_of(int64_t n, int64_t rank, int64_t parts) {
  const int64_t each = (n + parts - 1) / parts, from = rank * each, to = from + each;
  return {from < n ? from : n, to < n ? to : n};
}

struct Plan {
  int blocks;
  bool together;     // one launch: all blocks are resident at once and may wait for each other
  bool alone;        // every block holds the whole matrix and iterates by itself, without waiting for others
  bool vectors;      // the iteration's two vectors of K are on chip
  int buffers;       // of matrix rows: 0 read in place, 1 all rows of this block stay on chip, 2 streamed in turn
  int tile_rows;     // rows a buffer holds, or that are worked on at a time
  int64_t kept;      // rows of logits a block keeps on chip from the first phase to the last
};

template <class A>
struct Scratch {
  double diagonal[kMaxSubspace], off_diagonal[kMaxSubspace], pivots_down[kMaxSubspace], pivots_up[kMaxSubspace];
  double s[kMaxSubspace], top, runner_up;
  double wide_slots[32];
  A overlap[kMaxSubspace], overlap_parts[kMaxSubspace], slots[32];
  int counts[32];
};

// Where a block's shared memory holds what, in bytes from its start. Worked out on the host: on the device an address
// is then one addition, which costs no register to keep.
struct Places {
  int entering, keep, factor, partial_dots, q, sums, basis, images, next, pull, tile, rows, tile_stride, bytes;
};

template <class T, class A>
Places places_of(const Plan& plan, int64_t classes) {
  int64_t end = 0;
  const auto take = [&](int64_t count, size_t each) {
    const int64_t start = end;
    end += (count * each + 15) / 16 * 16;
    return static_cast<int>(std::min<int64_t>(start, INT32_MAX));
  };
  const int64_t vector = plan.vectors ? classes : 0, alone = plan.alone ? classes : 0;
  const int64_t krylov = std::min<int64_t>(classes, kMaxSubspace), stride = plan.tile_rows * classes + 16 / sizeof(A);
  Places p;
  take(1, sizeof(Scratch<A>));
  p.entering = take(plan.tile_rows, sizeof(double));
  p.keep = take(plan.tile_rows, sizeof(A));
  p.factor = take(plan.tile_rows, sizeof(A));
  p.partial_dots = take(plan.tile_rows + 32, sizeof(A));
  p.q = take(vector, sizeof(A));
  p.sums = take(vector, sizeof(A));
  p.basis = take(krylov * alone, sizeof(A));
  p.images = take(krylov * alone, sizeof(A));
  p.next = take(alone, sizeof(A));
  p.pull = take(alone, sizeof(A));
  p.tile_stride = static_cast<int>((stride + 3) / 4 * 4);
  p.tile = take(plan.buffers * ((stride + 3) / 4 * 4), sizeof(A));
  p.rows = take(plan.kept * classes, sizeof(T));
  p.bytes = static_cast<int>(std::min<int64_t>(end, INT32_MAX));
  return p;
}

// The same as pointers.
template <class T, class A>
struct OnChip {
  Scratch<A>* scratch;
  double* entering;                 // (tile_rows) share / n_j of the class
  A *keep, *factor, *partial_dots;  // (tile_rows), (tile_rows), (tile_rows + warps)
  A *q, *sums;                      // (K) where plan.vectors
  A *basis, *images, *next, *pull;  // where plan.alone
  A* tile;                          // (buffers, tile_stride)
  T* rows;                          // (kept, K)

  __device__ OnChip(unsigned char* memory, const Places& p) {
    const auto at = [&](auto*& pointer, int offset) {
      pointer = reinterpret_cast<std::remove_reference_t<decltype(pointer)>>(memory + offset);
    };
    at(scratch, 0), at(entering, p.entering), at(keep, p.keep), at(factor, p.factor), at(partial_dots, p.partial_dots);
    at(q, p.q), at(sums, p.sums), at(basis, p.basis), at(images, p.images), at(next, p.next), at(pull, p.pull);
    at(tile, p.tile), at(rows, p.rows);
  }
};

constexpr int64_t kAloneClasses = 128;  // up to here a block's own iteration is faster than waiting for the others
constexpr int kRowsInPlace = 16;

// Keeps up to `rows` rows of logits a block, as many as there is room for.
template <class T, class A>
void keep_rows(Plan& plan, int64_t rows, int64_t classes, int64_t limit) {
  const int64_t free = limit - places_of<T, A>(plan, classes).bytes - 16;
  plan.kept = std::max<int64_t>(0, std::min<int64_t>(rows, free / static_cast<int64_t>(classes * sizeof(T))));
}

// Cuts the work for `resident` blocks that can wait for each other (1 where none can) and `limit` bytes on chip each.
template <class T, class A>
Plan make_plan(int64_t samples, int64_t classes, int resident, int64_t limit) {
  Plan plan{};
  const auto fits = [&] { return places_of<T, A>(plan, classes).bytes <= limit; };
  const auto settle = [&](bool alone, bool vectors, int buffers, int64_t tile_rows) {
    plan.alone = alone, plan.vectors = vectors, plan.buffers = buffers;
    plan.tile_rows = static_cast<int>(std::min<int64_t>(tile_rows, 1 << 15));
    return plan.tile_rows > 0 && fits();
  };
  plan.together = resident > 1;
  const bool small = classes <= kAloneClasses;
  const int64_t useful = small ? (std::max(samples, classes) + 7) / 8 : std::max(samples, classes);
  plan.blocks = static_cast<int>(std::min<int64_t>(plan.together ? resident : 1, useful));
  const int64_t own = share_of(classes, 0, plan.blocks).size();
  bool settled = (small && plan.together && settle(true, true, 1, classes)) || settle(false, true, 1, own);
  for (int64_t rows = std::min<int64_t>(4, own); !settled && rows > 0; --rows) settled = settle(false, true, 2, rows);
  settled = settled || settle(false, true, 0, kRowsInPlace) || settle(false, false, 0, kRowsInPlace);
  if (plan.together) keep_rows<T, A>(plan, share_of(samples, 0, plan.blocks).size(), classes, limit);
  return plan;
}

// For blocks that do not iterate, `kept` rows of logits each.
template <class T, class A>
Plan plan_of_rows(int64_t kept, int64_t classes, int64_t limit) {
  Plan plan{};
  plan.tile_rows = kRowsInPlace;
  keep_rows<T, A>(plan, kept, classes, limit);
  return plan;
}

template <class T, class A>
struct StepArguments {
  const T* logits;
  const int64_t* targets;
  const A* sample_weights;  // or null
  const A* class_weights;   // or null: all 1
  A* ema;                   // (K, K), row = true class
  int64_t* updates;         // or null: not counted
  A* direction;
  A* spectral_error;
  A* sigma;
  T* grad;                  // contiguous in the logits' shape
  A* other_direction;       // (K) w, or null
  A* mass;                  // (K) n_j, or null; written with the classes, read with `upstream`
  const A* upstream;        // (K, K) of the gradient, row = true class, or null: u w^T of the iteration
  int64_t samples, classes, spatial, stride_n, stride_k, stride_s;
  A beta, gamma, inv_temperature;
  double beta_exact, tolerance;
  bool softmax_over_all, detach_gate, start_from_first_batch, hold_absent, debias;
  int64_t ignore_index, max_iterations;
  Plan plan;
  Places places;
  // workspace
  A* row_top;       // (B) largest logit of the softmax's support; NaN marks a row that cannot be used
  A* row_scale;     // (B) 1 / sum of exponentials
  int32_t* order;   // (B) samples, those of one block's classes together, otherwise in their own order
  A* column_scale;  // (K) lambda_j / filled share
  A* coefficient;   // (K) what a sample of class j enters the top triple with: share * scale_j / n_j
  A* pull;          // (K) the same times w_j; from here on where not plan.alone
  A* next;          // (K)
  A* basis;         // (krylov, K)
  A* images;        // (krylov, K) M^T basis
  A* overlaps;      // (blocks, kMaxSubspace)
  A* partials;      // (blocks, K) each block's part of M M^T q
  A* vectors;       // (blocks, K) q, where not plan.vectors
};

// Hands out the workspace in one order for everyone; without memory it only counts the elements of A it needs.
template <class T, class A>
int64_t lay_out(StepArguments<T, A>& a, A* memory) {
  int64_t used = 0;
  const auto take = [&](int64_t count) {
    A* part = memory ? memory + used : nullptr;
    used += count;
    return part;
  };
  const int64_t b = a.samples, k = a.classes, krylov = std::min<int64_t>(k, kMaxSubspace);
  const int64_t shared = a.plan.blocks > 0 && !a.plan.alone;  // without blocks there is no iteration
  a.row_top = take(b), a.row_scale = take(b), a.column_scale = take(k), a.coefficient = take(k);
  a.pull = take(k * shared), a.next = take(k * shared);
  a.basis = take(krylov * k * shared), a.images = take(krylov * k * shared);
  a.overlaps = take(a.plan.blocks * int64_t{kMaxSubspace} * shared), a.partials = take(a.plan.blocks * k * shared);
  a.vectors = take(a.plan.vectors ? 0 : a.plan.blocks * k);
  a.order = reinterpret_cast<int32_t*>(take((b * sizeof(int32_t) + sizeof(A) - 1) / sizeof(A)));
  return used;
}

}  // namespace car
