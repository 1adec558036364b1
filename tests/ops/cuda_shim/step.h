// The operators through the CUDA kernel on a CPU: what csrc/cuda/launch.cu does, with a made-up device.
#pragma once

#include "shim.h"

#include "../../../csrc/cuda/schedule.cuh"

constexpr unsigned kShimThreads = 64;  // few, so that strided loops loop

enum class Work { step, confusion, confusion_backward };

struct ShimDevice {
  int resident;              // blocks that can wait for each other; 1 takes the multi-launch path
  int64_t shared_memory;     // bytes a block
  bool refuses;              // launches whose blocks wait for each other, as a GPU shared with others may
};

// What `a` points to is set; workspace, plan and launches are not.
template <class T, class A>
void run(car::StepArguments<T, A>& a, Work work, const ShimDevice& device) {
  std::vector<A> workspace;
  const auto memory = [&](int64_t count) {
    workspace.assign(count, A(NAN));  // what is read before it is written shows
    return workspace.data();
  };
  const auto go = [&](unsigned phases, int64_t blocks, bool together) {
    if (together && device.refuses) return false;
    launch(car::car_step_kernel<T, A>, static_cast<unsigned>(blocks), kShimThreads, a.places.bytes, a, phases);
    return true;
  };
  const car::Room room{device.resident, device.shared_memory, 3};
  switch (work) {
    case Work::step: return car::schedule_step(a, room, memory, go);
    case Work::confusion: return car::schedule_confusion(a, room, memory, go);
    case Work::confusion_backward: return car::schedule_confusion_backward(a, room, memory, go);
  }
}
