// The kernel of every operator here, free of torch so that the very same source also runs on a CPU under the tests'
// shim (tests/ops/cuda_shim): four phases, in one cooperative launch or in one launch each (schedule.cuh).
//
// Deterministic: every sum belongs to one thread or to one fixed tree; no float atomics. No host synchronisation: what
// depends on the data (absent classes, convergence, NaN) is decided here.
//
// A sample whose logits hold NaN or +inf cannot raise from a kernel. car_step leaves it out of the moving average; its
// gradient and sigma become NaN, and the state stays whole, so a skipped step (as a gradient scaler does) heals it.
// confusion keeps no state: its whole matrix becomes NaN.
#pragma once

#include "spectral.cuh"

namespace car {

enum Phases : unsigned { kRows = 1, kClasses = 2, kSpectral = 4, kGradient = 8, kAll = 15 };

template <class T, class A>
__global__ void __launch_bounds__(kThreads<A>, 1)
car_step_kernel(const __grid_constant__ StepArguments<T, A> a, unsigned phases) {
  const OnChip<T, A> chip(shared_memory(), a.places);
  const Team<T, A> team(a, chip);
  const bool all = phases == kAll, wide = rows_are_wide(a);

  if (phases & kSpectral) start_vector(team);
  if (phases & kRows) {
    if (wide) row_statistics<true>(a, chip);
    else row_statistics<false>(a, chip);
    if (!all) __syncthreads();  // the gradient of confusion follows at once: it needs its own block's rows only
  }
  if (all) grid_sync();

  // In one launch the iteration's first read of a row brings it up to date; blocks that iterate alone read all rows.
  const bool apart = a.plan.alone || !a.plan.together;
  Members members{};
  if (phases & kClasses) {
    const Range own = share_of(a.classes, blockIdx.x, gridDim.x);
    members = list_members(a, chip, own);
    if (apart) update_in_place(a, chip, members, own);
    if (a.mass) spoil_if_unusable(a, chip, own);
  }
  if (all && apart) grid_sync();
  if (phases & kSpectral) spectral_norm(team, members);
  if (all && !apart) grid_sync();

  if (phases & kGradient) {
    const A* u = a.plan.alone ? team.q : a.direction;
    if (wide) gradient<true>(a, chip, u, team.pull);
    else gradient<false>(a, chip, u, team.pull);
  }
}

}  // namespace car
