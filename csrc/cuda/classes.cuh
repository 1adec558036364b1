// The moving average: each class's column (a row in memory) belongs to one block.
#pragma once

#include "rows.cuh"

namespace car {

struct Members {
  const int32_t* sample;
  int64_t count;
};

// The samples of the classes in `own`, in their own order, in this block's part of a.order. A stable counting sort with
// the block as the digit: every thread counts over one run of samples, then writes from where the lower threads end.
template <class T, class A>
__device__ Members list_members(const StepArguments<T, A>& a, const OnChip<T, A>& chip, Range own) {
  const Range run = share_of(a.samples, threadIdx.x, blockDim.x);
  int before = 0, mine = 0;
  for (int64_t q = run.from; q < run.to; ++q) {
    const int64_t y = a.targets[q];
    const bool counts = is_usable(a, q);
    before += counts && y < own.from;
    mine += counts && y >= own.from && y < own.to;
  }
  const int start = block_sum(before, chip.scratch->counts), count = block_sum(mine, chip.scratch->counts);
  int32_t* list = a.order + start;
  int rank = block_rank(mine, chip.scratch->counts);
  for (int64_t q = run.from; q < run.to && mine > 0; ++q) {
    const int64_t y = a.targets[q];
    if (y >= own.from && y < own.to && is_usable(a, q)) list[rank++] = static_cast<int32_t>(q);
  }
  __syncthreads();
  return {list, count};
}

constexpr int64_t kUpdateColumns = 128;

// Which warp works on what: `parts` runs of columns for each of `rows`, so that few rows keep all warps busy too.
struct Split {
  int64_t parts, width;
};

__device__ inline Split split_of(int64_t rows, int64_t columns) {
  const int64_t spare = warp_count() / rows, most = (columns + 127) / 128, parts = spare < most ? spare : most;
  if (parts <= 1) return {1, columns};
  const int64_t width = ((columns + parts - 1) / parts + 31) / 32 * 32;
  return {(columns + width - 1) / width, width};
}

// How much each class's old column and its new samples count, to chip.keep and chip.entering; a warp a class.
template <class T, class A>
__device__ void weigh_classes(const StepArguments<T, A>& a, const OnChip<T, A>& chip, const Members& members,
                              Range own) {
  for (int64_t r = warp_id(); r < own.size(); r += warp_count()) {
    const int64_t j = own.from + r;
    double mass = 0;
    for (int64_t n = lane_id(); n < members.count; n += 32)
      if (a.targets[members.sample[n]] == j) mass += static_cast<double>(weight_of(a, members.sample[n]));
    mass = warp_sum(mass);
    if (lane_id() != 0) continue;
    const bool absent = !(mass > 0), held = absent && a.hold_absent;
    const int64_t past = a.updates ? a.updates[j] : 0, count = past + (held ? 0 : 1);
    const bool first = a.start_from_first_batch && past == 0;
    const A take = first ? A(1) : A(1) - a.beta, lambda = a.class_weights ? a.class_weights[j] : A(1);
    const A scale = static_cast<A>(lambda / (a.debias ? filled_share(a.beta_exact, count) : 1.));
    chip.keep[r] = held ? A(1) : (first ? A(0) : a.beta);
    chip.entering[r] = absent ? 0. : take / mass;
    if (a.updates) a.updates[j] = count;
    if (a.mass) a.mass[j] = static_cast<A>(mass);
    a.column_scale[j] = scale;
    a.coefficient[j] = absent || first ? A(0) : static_cast<A>(take * scale / mass);
  }
}

// row[i] += factor * v_i of sample q, for a warp's columns.
template <class T, class A>
__device__ void add_sample(const StepArguments<T, A>& a, int64_t q, int64_t j, A factor, Range columns,
                           A* __restrict__ row) {
  const Row<T> logits = row_of(a, q);
  const Sample<A> sample = sample_of(a, q, logits);
  const T* __restrict__ z = logits.z;
#pragma unroll 4
  for (int64_t i = columns.from + lane_id(); i < columns.to; i += 32) {
    A p, g;
    probability_and_gate(a, sample, static_cast<A>(z[i * logits.stride]), i == j, p, g);
    row[i] += factor * p * g;
  }
}

// Brings the columns of `own` up to date in a.ema. `rows` holds them already: a.ema itself, or a copy on chip that is
// brought up to date as well.
template <class T, class A>
__device__ void update_classes(const StepArguments<T, A>& a, const OnChip<T, A>& chip, const Members& members,
                               Range own, A* rows) {
  weigh_classes(a, chip, members, own);
  __syncthreads();
  // Short runs of columns: the samples of a frequent class are then shared by many warps.
  const Split split{(a.classes + kUpdateColumns - 1) / kUpdateColumns, kUpdateColumns};
  for (int64_t item = warp_id(); item < own.size() * split.parts; item += warp_count()) {
    const int64_t r = item / split.parts, j = own.from + r, from = item % split.parts * split.width;
    const Range columns{from, from + split.width < a.classes ? from + split.width : a.classes};
    A *row = rows + r * a.classes, *home = a.ema + j * a.classes;
    const A keep = chip.keep[r];
    if (keep != A(1)) {
#pragma unroll 8
      for (int64_t i = columns.from + lane_id(); i < columns.to; i += 32) row[i] = keep > 0 ? keep * row[i] : A(0);
    }
    for (int64_t first = 0; chip.entering[r] > 0 && first < members.count; first += 32) {
      const int64_t n = first + lane_id();
      const int32_t q = n < members.count ? members.sample[n] : -1;
      for (unsigned hits = __ballot_sync(kFullWarp, q >= 0 && a.targets[q < 0 ? 0 : q] == j); hits; hits &= hits - 1) {
        const int64_t s = __shfl_sync(kFullWarp, q, __ffs(hits) - 1);
        add_sample(a, s, j, static_cast<A>(chip.entering[r] * weight_of(a, s)), columns, row);
      }
    }
    if (row != home && keep != A(1)) {
#pragma unroll 8
      for (int64_t i = columns.from + lane_id(); i < columns.to; i += 32) home[i] = row[i];
    }
  }
  __syncthreads();
}

// The same for any number of classes, in place.
template <class T, class A>
__device__ void update_in_place(const StepArguments<T, A>& a, const OnChip<T, A>& chip, const Members& members,
                                Range own) {
  for (int64_t from = own.from; from < own.to; from += a.plan.tile_rows) {
    const Range rows{from, from + a.plan.tile_rows < own.to ? from + a.plan.tile_rows : own.to};
    update_classes(a, chip, members, rows, a.ema + from * a.classes);
  }
}

// A matrix of samples that cannot all be used is no mean of them.
template <class T, class A>
__device__ void spoil_if_unusable(const StepArguments<T, A>& a, const OnChip<T, A>& chip, Range own) {
  if (!any_unusable(a, chip.scratch->counts)) return;
  for (int64_t i = own.from * a.classes + threadIdx.x; i < own.to * a.classes; i += blockDim.x) a.ema[i] = A(NAN);
}

}  // namespace car
