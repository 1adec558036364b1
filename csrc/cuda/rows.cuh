// The two phases that work on rows of logits: the softmax's statistics at the start, the gradient at the end.
//
// A row belongs to a warp, or to a whole block where there are few rows for the grid. It is read from device memory
// once and kept on chip between the phases as far as there is room.
#pragma once

#include "arguments.cuh"

namespace car {

template <class A> CAR_HD A lowest_of();
template <> CAR_HD float lowest_of<float>() { return -3.402823466e38f; }
template <> CAR_HD double lowest_of<double>() { return -1.7976931348623157e308; }

template <class T>
struct Row {
  const T* z;
  int64_t stride;
};

template <class T, class A>
__device__ Row<T> row_of(const StepArguments<T, A>& a, int64_t q) {
  if (a.spatial == 1) return {a.logits + q * a.stride_n, a.stride_k};
  return {a.logits + q / a.spatial * a.stride_n + q % a.spatial * a.stride_s, a.stride_k};
}

template <class T, class A>
__device__ bool takes_part(const StepArguments<T, A>& a, int64_t q) {
  const int64_t y = a.targets[q];
  return y != a.ignore_index && y >= 0 && y < a.classes;
}

template <class T, class A>
__device__ bool is_usable(const StepArguments<T, A>& a, int64_t q) {
  return takes_part(a, q) && a.row_top[q] == a.row_top[q];
}

// A sample with NaN or +inf logits, or of no class there is. Every thread of the block gets the answer.
template <class T, class A>
__device__ bool any_unusable(const StepArguments<T, A>& a, int* slots) {
  int bad = 0;
  for (int64_t q = threadIdx.x; q < a.samples; q += blockDim.x)
    bad += a.targets[q] != a.ignore_index && !is_usable(a, q);
  return block_sum(bad, slots) > 0;
}

template <class T, class A>
__device__ A weight_of(const StepArguments<T, A>& a, int64_t q) {
  return a.sample_weights ? a.sample_weights[q] : A(1);
}

// What all elements of one sample's row share.
template <class A>
struct Sample {
  int64_t y;
  A z_true, top, scale, cut;
};

template <class T, class A>
__device__ Sample<A> sample_of(const StepArguments<T, A>& a, int64_t q, const Row<T>& row) {
  Sample<A> s;
  s.y = a.targets[q];
  s.top = a.row_top[q];
  s.scale = a.row_scale[q];
  const A z = static_cast<A>(row.z[s.y * row.stride]);
  s.z_true = z > lowest_of<A>() ? z : lowest_of<A>();  // a masked (-inf) logit counts as the lowest finite one
  s.cut = exponential(s.z_true - a.gamma - s.top);
  return s;
}

// p_i and g_i (car_math.h) of one element, i any class.
template <class T, class A>
__device__ void probability_and_gate(const StepArguments<T, A>& a, const Sample<A>& s, A z_i, bool is_true, A& p,
                                     A& g) {
  const A e = exponential((z_i - s.top) * a.inv_temperature);
  p = is_true && !a.softmax_over_all ? A(0) : e * s.scale;
  if (is_true) g = 0;
  else if (a.inv_temperature == A(1)) g = gate_from_numerator(e, s.cut);
  else g = gate(z_i, s.z_true, a.gamma);
}

// A block takes a whole row where that leaves it only a few; the choice is the same in both phases.
template <class T, class A>
__device__ bool rows_are_wide(const StepArguments<T, A>& a) {
  return a.classes > 4 * 32 && (a.samples <= 4 * static_cast<int64_t>(gridDim.x) || a.classes > 4096);
}

// Calls work(q, slot): the group's rows in turn, with the place each may be kept at. A block's rows are neighbours,
// which in dense prediction share cache lines.
template <bool Wide, class T, class A, class Work>
__device__ void for_each_row(const StepArguments<T, A>& a, const Work& work) {
  const Range own = share_of(a.samples, blockIdx.x, gridDim.x);
  const int64_t groups = Wide ? 1 : warp_count();
#if defined(CAR_SEED_BAD_INDEX)  // the tests compile it in to see that it is found
  const int64_t count = own.size() + 1;
#else
  const int64_t count = own.size();
#endif
  for (int64_t slot = Wide ? 0 : warp_id(); slot < count; slot += groups) work(own.from + slot, slot);
}

template <class T, class A>
__device__ T* kept_row(const StepArguments<T, A>& a, const OnChip<T, A>& chip, int64_t slot) {
  return slot < a.plan.kept ? chip.rows + slot * a.classes : nullptr;
}

template <bool Wide, class T, class A>
__device__ void row_statistics(const StepArguments<T, A>& a, const OnChip<T, A>& chip) {
  for_each_row<Wide>(a, [&](int64_t q, int64_t slot) {
    if (a.targets[q] == a.ignore_index) return;  // the whole group agrees
    const Row<T> row = row_of(a, q);
    T* kept = kept_row(a, chip, slot);
    const int64_t skip = a.softmax_over_all ? -1 : a.targets[q];
    A top = lowest_of<A>(), bad = takes_part(a, q) ? A(0) : A(1);
#pragma unroll 4
    for (int64_t i = group_lane<Wide>(); i < a.classes; i += group_size<Wide>()) {
      const T stored = row.z[i * row.stride];
      const A z = static_cast<A>(stored);
      if (kept) kept[i] = stored;
      if (!(z <= -lowest_of<A>())) bad = 1;
      if (i != skip && z > top) top = z;
    }
    top = group_max<Wide>(top, chip.scratch->slots);
    bad = group_max<Wide>(bad, chip.scratch->slots);
    const Row<T> again = kept ? Row<T>{kept, 1} : row;  // each thread reads what it stored itself
    A sum = 0;
#pragma unroll 4
    for (int64_t i = group_lane<Wide>(); i < a.classes; i += group_size<Wide>())
      if (i != skip) sum += exponential((static_cast<A>(again.z[i * again.stride]) - top) * a.inv_temperature);
    sum = group_sum<Wide>(sum, chip.scratch->slots);
    if (group_lane<Wide>() == 0) {
      a.row_top[q] = bad > 0 ? A(NAN) : top;
      a.row_scale[q] = A(1) / sum;
    }
  });
}

// d sigma / d logits with u and pull (coefficient_j * w_j) from the iteration, or the gradient of the batch's matrix
// against a.upstream: each class then has a u of its own and enters with 1 / n_j.
template <bool Wide, class T, class A>
__device__ void gradient(const StepArguments<T, A>& a, const OnChip<T, A>& chip, const A* direction, const A* pull) {
  for_each_row<Wide>(a, [&](int64_t q, int64_t slot) {
    T* out = a.grad + q / a.spatial * a.classes * a.spatial + q % a.spatial;
    const int64_t y = a.targets[q];
    const bool usable = is_usable(a, q);
    A c = usable ? weight_of(a, q) : A(0);
    if (c != 0) c = !a.upstream ? c * pull[y] : (a.mass[y] > 0 ? c / a.mass[y] : A(0));
    if (c == 0) {  // the whole group agrees
      const A blank = usable || y == a.ignore_index ? A(0) : A(NAN);
      for (int64_t i = group_lane<Wide>(); i < a.classes; i += group_size<Wide>())
        out[i * a.spatial] = static_cast<T>(blank);
      return;
    }
    const A* u = a.upstream ? a.upstream + y * a.classes : direction;
    const T* kept = kept_row(a, chip, slot);
    const Row<T> row = kept ? Row<T>{kept, 1} : row_of(a, q);
    const Sample<A> sample = sample_of(a, q, row);
    A along = 0, true_slope = 0, p, g;
#pragma unroll 4
    for (int64_t i = group_lane<Wide>(); i < a.classes; i += group_size<Wide>()) {
      probability_and_gate(a, sample, static_cast<A>(row.z[i * row.stride]), i == y, p, g);
      along += u[i] * p * g;
      true_slope += u[i] * gate_slope(p, g, a.detach_gate);
    }
    along = group_sum<Wide>(along, chip.scratch->slots);
    true_slope = group_sum<Wide>(true_slope, chip.scratch->slots);
#pragma unroll 4
    for (int64_t i = group_lane<Wide>(); i < a.classes; i += group_size<Wide>()) {
      probability_and_gate(a, sample, static_cast<A>(row.z[i * row.stride]), i == y, p, g);
      const A dz = logit_gradient(c, u[i], p, g, along, a.inv_temperature, a.detach_gate);
      out[i * a.spatial] = static_cast<T>(i == y ? dz - c * true_slope : dz);
    }
  });
}

}  // namespace car
