// Which phases of the kernel an operator launches, and how the work is cut: the same on a GPU and under the tests'
// shim.
//
// memory(count) gives workspace for `count` elements of A. launch(phases, blocks, together) launches the kernel with
// `a`; where blocks that must run together are refused, it returns false.
#pragma once

#include "arguments.cuh"
#include "kernel.cuh"

namespace car {

struct Room {
  int resident;           // blocks that can wait for each other; 1 where none can
  int64_t shared_memory;  // bytes a block
  int64_t blocks;         // of a launch whose blocks need not wait
};

template <class T, class A, class Memory>
void prepare(StepArguments<T, A>& a, const Plan& plan, const Memory& memory) {
  a.plan = plan;
  a.places = places_of<T, A>(plan, a.classes);
  lay_out(a, memory(lay_out<T, A>(a, nullptr)));
}

// One launch, or one a phase.
template <class T, class A, class Memory, class Launch>
void schedule_step(StepArguments<T, A>& a, const Room& room, const Memory& memory, const Launch& launch) {
  prepare(a, make_plan<T, A>(a.samples, a.classes, room.resident, room.shared_memory), memory);
  if (a.plan.together) {
    if (launch(kAll, a.plan.blocks, true)) return;
    prepare(a, make_plan<T, A>(a.samples, a.classes, 1, room.shared_memory), memory);
  }
  if (a.samples > 0) launch(kRows, std::min(a.samples, room.blocks), false);
  launch(kClasses, std::min(a.classes, room.blocks), false);
  launch(kSpectral, int64_t{1}, false);
  if (a.samples > 0) launch(kGradient, std::min(a.samples, room.blocks), false);
}

// The batch's matrix to a.ema, n_j to a.mass.
template <class T, class A, class Memory, class Launch>
void schedule_confusion(StepArguments<T, A>& a, const Room& room, const Memory& memory, const Launch& launch) {
  prepare(a, plan_of_rows<T, A>(0, a.classes, room.shared_memory), memory);
  if (a.samples > 0) launch(kRows, std::min(a.samples, room.blocks), false);
  launch(kClasses, std::min(a.classes, room.blocks), false);
}

// Its gradient against a.upstream, from rows that stay on chip as far as there is room.
template <class T, class A, class Memory, class Launch>
void schedule_confusion_backward(StepArguments<T, A>& a, const Room& room, const Memory& memory, const Launch& launch) {
  if (a.samples == 0) return;
  const int64_t blocks = std::min(a.samples, room.blocks);
  prepare(a, plan_of_rows<T, A>(share_of(a.samples, 0, blocks).size(), a.classes, room.shared_memory), memory);
  launch(kRows | kGradient, blocks, false);
}

}  // namespace car
