// The kernel of car_ext::car_step, free of torch so that the very same source also runs on a CPU under the tests' shim
// (tests/cuda_shim). All four phases in one cooperative launch, or one launch a phase where blocks cannot wait for
// each other.
//
// Deterministic: every sum belongs to one thread or to one fixed tree; no float atomics. No host synchronisation: what
// depends on the data (absent classes, convergence, NaN) is decided here.
//
// A sample whose logits hold NaN or +inf cannot raise from a kernel: it is left out of the moving average, its
// gradient and sigma become NaN, and the state stays whole, so a skipped step (as a gradient scaler does) heals it.
#pragma once

#include "spectral.cuh"

namespace car {

enum class Phase { all, rows, classes, spectral, gradient };

template <class T, class A>
__global__ void __launch_bounds__(kThreads<A>, 1) car_step_kernel(const __grid_constant__ StepArguments<T, A> a, Phase phase) {
  const OnChip<T, A> chip(shared_memory(), a.places);
  const Team<T, A> team(a, chip);
  const bool all = phase == Phase::all, wide = rows_are_wide(a);

  if (all || phase == Phase::spectral) start_vector(team);
  if (all || phase == Phase::rows) {
    if (wide) row_statistics<true>(a, chip);
    else row_statistics<false>(a, chip);
  }
  if (all) grid_sync();

  // In one launch the iteration's first read of a row brings it up to date; blocks that iterate alone read all rows.
  const bool apart = a.plan.alone || !a.plan.together;
  Members members{};
  if (all || phase == Phase::classes) {
    const Range own = share_of(a.classes, blockIdx.x, gridDim.x);
    members = list_members(a, chip, own);
    if (apart) update_in_place(a, chip, members, own);
  }
  if (all && apart) grid_sync();
  if (all || phase == Phase::spectral) spectral_norm(team, members);
  if (all && !apart) grid_sync();

  if (all || phase == Phase::gradient) {
    const A* u = a.plan.alone ? team.q : a.direction;
    if (wide) gradient<true>(a, chip, u, team.pull);
    else gradient<false>(a, chip, u, team.pull);
  }
}

}  // namespace car
