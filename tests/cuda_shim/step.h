// car_step through the CUDA kernel on a CPU: what csrc/cuda/car_step.cu does, with a made-up device.
#pragma once

#include "shim.h"

#include "../../csrc/cuda/kernel.cuh"

constexpr unsigned kShimThreads = 64;  // few, so that strided loops loop

struct ShimDevice {
  int resident;              // blocks that can wait for each other; 1 takes the multi-launch path
  int64_t shared_memory;     // bytes a block
};

// The tensors of `a` are set; workspace, plan and launches are not.
template <class T, class A>
void run_step(car::StepArguments<T, A>& a, const ShimDevice& device) {
  using car::Phase;
  a.plan = car::make_plan<T, A>(a.samples, a.classes, device.resident, device.shared_memory);
  a.places = car::places_of<T, A>(a.plan, a.classes);
  // NaN: what is read before it is written shows.
  std::vector<A> workspace(car::lay_out<T, A>(a, nullptr), A(NAN));
  car::lay_out(a, workspace.data());
  const auto go = [&](Phase phase, unsigned blocks) { launch(car::car_step_kernel<T, A>, blocks, kShimThreads, a.places.bytes, a, phase); };
  if (a.plan.together) {
    go(Phase::all, a.plan.blocks);
  } else {
    if (a.samples > 0) go(Phase::rows, 2);
    go(Phase::classes, 3);
    go(Phase::spectral, 1);
    if (a.samples > 0) go(Phase::gradient, 2);
  }
}
