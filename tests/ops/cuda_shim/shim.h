// Just enough CUDA to run csrc/cuda/kernel.cuh on a CPU. Every thread of every block of the grid is a fibre of one
// system thread: all are alive at once, so blocks may wait for each other, and every run takes the same turns.
//
// Under ThreadSanitizer fibres count as threads that nothing orders but the barriers below: a missing barrier is found
// on every run, whatever the turns. Under AddressSanitizer shared memory is an allocation of the size the launch asks
// for, so that a bad index into it is found too.
#pragma once

#include <ucontext.h>

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <vector>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __grid_constant__
#define __launch_bounds__(...)

#if defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
#define SHIM_UNSEEN __attribute__((no_sanitize("thread")))
#else
#define SHIM_UNSEEN
#endif
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

struct Index { unsigned x; };
inline Index threadIdx{0}, blockIdx{0}, blockDim{1}, gridDim{1};

namespace shim {

constexpr size_t kStack = 256 << 10;

struct Barrier {
  int size = 0, arrived = 0;
  int64_t generation = 0;
};

struct Warp {
  Barrier barrier{32};
  uint64_t slot[2][32];  // by turns: nobody is two exchanges ahead of a reader
};

struct Copy {
  void* to;
  const void* from;
  size_t bytes;
  int group;
};

struct Fibre {
  unsigned thread, block;
  ucontext_t context;
  char* stack;
  Barrier* waits_for = nullptr;
  int64_t generation = 0;
  bool done = false, odd = false;  // odd: the warp's slots of its next exchange
  void* tsan = nullptr;
  std::vector<Copy> copies;  // started, not waited for
  int groups = 0;
};

struct Grid {
  Fibre* fibres;
  int count, current;
  ucontext_t scheduler;
  void* scheduler_tsan;
  const void* scheduler_stack;
  size_t scheduler_stack_size;
  Barrier all;
  Barrier* blocks;
  Warp* warps;
  unsigned char** shared;
  const std::function<void()>* body;
};
inline Grid grid;

SHIM_UNSEEN inline Fibre& self() { return grid.fibres[grid.current]; }
SHIM_UNSEEN inline int warp_index() { return grid.current / 32; }

SHIM_UNSEEN inline void to_scheduler(bool for_good) {
  Fibre& f = self();
#if defined(__SANITIZE_ADDRESS__)
  void* fake = nullptr;
  __sanitizer_start_switch_fiber(for_good ? nullptr : &fake, grid.scheduler_stack, grid.scheduler_stack_size);
#endif
#if defined(__SANITIZE_THREAD__)
  __tsan_switch_to_fiber(grid.scheduler_tsan, __tsan_switch_to_fiber_no_sync);
#endif
  f.done = for_good;
  swapcontext(&f.context, &grid.scheduler);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(fake, &grid.scheduler_stack, &grid.scheduler_stack_size);
#endif
}

SHIM_UNSEEN inline void wait(Barrier& b) {
#if defined(__SANITIZE_THREAD__)
  __tsan_release(&b);
#endif
  Fibre& f = self();
  f.generation = b.generation;
  if (++b.arrived == b.size) {
    b.arrived = 0;
    ++b.generation;
  } else {
    f.waits_for = &b;
    to_scheduler(false);
  }
#if defined(__SANITIZE_THREAD__)
  __tsan_acquire(&b);
#endif
}

SHIM_UNSEEN inline void enter() {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(nullptr, &grid.scheduler_stack, &grid.scheduler_stack_size);
#endif
  (*grid.body)();
#if defined(__SANITIZE_THREAD__)
  __tsan_release(&grid);
#endif
  to_scheduler(true);
}

SHIM_UNSEEN inline bool can_run(const Fibre& f) {
  return !f.done && !(f.waits_for && f.waits_for->generation == f.generation);
}

SHIM_UNSEEN inline void run_all() {
  for (bool progress = true; progress;) {
    progress = false;
    for (grid.current = 0; grid.current < grid.count; ++grid.current) {
      Fibre& f = self();
      if (!can_run(f)) continue;
      progress = true;
      f.waits_for = nullptr;
      threadIdx.x = f.thread;
      blockIdx.x = f.block;
#if defined(__SANITIZE_ADDRESS__)
      void* fake = nullptr;
      __sanitizer_start_switch_fiber(&fake, f.stack, kStack);
#endif
#if defined(__SANITIZE_THREAD__)
      __tsan_switch_to_fiber(f.tsan, __tsan_switch_to_fiber_no_sync);
#endif
      swapcontext(&grid.scheduler, &f.context);
#if defined(__SANITIZE_ADDRESS__)
      __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
#endif
    }
  }
}

template <class T>
SHIM_UNSEEN T exchange(T value, int from) {
  Warp& warp = grid.warps[warp_index()];
  const int lane = grid.current % 32;
  uint64_t* slot = warp.slot[self().odd];
  self().odd = !self().odd;
  std::memcpy(&slot[lane], &value, sizeof(T));
  wait(warp.barrier);
  T other;
  std::memcpy(&other, &slot[from < 0 || from > 31 ? lane : from], sizeof(T));
  return other;
}

}  // namespace shim

SHIM_UNSEEN inline void __syncthreads() { shim::wait(shim::grid.blocks[shim::self().block]); }
SHIM_UNSEEN inline void __syncwarp() { shim::wait(shim::grid.warps[shim::warp_index()].barrier); }
SHIM_UNSEEN inline int shim_lane() { return shim::grid.current % 32; }

template <class T> T __shfl_xor_sync(unsigned, T value, int mask) { return shim::exchange(value, shim_lane() ^ mask); }
template <class T> T __shfl_up_sync(unsigned, T value, int by) { return shim::exchange(value, shim_lane() - by); }
template <class T> T __shfl_sync(unsigned, T value, int from) { return shim::exchange(value, from); }
SHIM_UNSEEN inline unsigned __ballot_sync(unsigned, bool holds) {
  unsigned votes = holds ? 1u << shim_lane() : 0u;
  for (int mask = 1; mask < 32; mask *= 2) votes |= __shfl_xor_sync(0, votes, mask);
  return votes;
}
inline int __ffs(unsigned bits) { return __builtin_ffs(static_cast<int>(bits)); }

// An asynchronous copy arrives as late as it may: when it is waited for.
SHIM_UNSEEN inline void __pipeline_memcpy_async(void* to, const void* from, size_t bytes) {
  shim::self().copies.push_back({to, from, bytes, shim::self().groups});
}
SHIM_UNSEEN inline void __pipeline_commit() { ++shim::self().groups; }
SHIM_UNSEEN inline void __pipeline_wait_prior(int open) {
  shim::Fibre& f = shim::self();
  size_t arrived = 0;
  for (; arrived < f.copies.size() && f.copies[arrived].group < f.groups - open; ++arrived)
    std::memcpy(f.copies[arrived].to, f.copies[arrived].from, f.copies[arrived].bytes);
  f.copies.erase(f.copies.begin(), f.copies.begin() + static_cast<std::ptrdiff_t>(arrived));
}

namespace cooperative_groups {
struct GridGroup {
  SHIM_UNSEEN void sync() const { shim::wait(shim::grid.all); }
};
inline GridGroup this_grid() { return {}; }
}  // namespace cooperative_groups

namespace car {
SHIM_UNSEEN inline unsigned char* shared_memory() { return shim::grid.shared[shim::self().block]; }
}  // namespace car

// kernel(arguments...) by `blocks` x `threads` with `bytes` of shared memory a block, filled with a pattern that no sum
// survives. Aborts where threads are left waiting: CUDA would hang.
template <class Kernel, class... Arguments>
void launch(Kernel kernel, unsigned blocks, unsigned threads, size_t bytes, const Arguments&... arguments) {
  using namespace shim;
  const std::function<void()> body = [&] { kernel(arguments...); };
  const int count = static_cast<int>(blocks * threads);
  std::vector<Fibre> fibres(count);
  std::vector<Barrier> block_barriers(blocks, Barrier{static_cast<int>(threads)});
  std::vector<Warp> warps(count / 32);
  std::vector<unsigned char*> shared(blocks);
  for (auto& memory : shared) std::memset(memory = static_cast<unsigned char*>(aligned_alloc(16, (bytes + 15) / 16 * 16)), 0xff, bytes);
  blockDim.x = threads, gridDim.x = blocks;
  grid.fibres = fibres.data(), grid.count = count, grid.all = Barrier{count};
  grid.blocks = block_barriers.data(), grid.warps = warps.data(), grid.shared = shared.data(), grid.body = &body;
#if defined(__SANITIZE_THREAD__)
  grid.scheduler_tsan = __tsan_get_current_fiber();
#endif
  for (int f = 0; f < count; ++f) {
    Fibre& fibre = fibres[f];
    fibre.thread = f % threads, fibre.block = f / threads;
    fibre.stack = static_cast<char*>(malloc(kStack));
    getcontext(&fibre.context);
    fibre.context.uc_stack.ss_sp = fibre.stack;
    fibre.context.uc_stack.ss_size = kStack;
    makecontext(&fibre.context, enter, 0);
#if defined(__SANITIZE_THREAD__)
    fibre.tsan = __tsan_create_fiber(0);
#endif
  }
  run_all();
#if defined(__SANITIZE_THREAD__)
  __tsan_acquire(&grid);
#endif
  for (Fibre& fibre : fibres) {
    if (!fibre.done) abort();
#if defined(__SANITIZE_THREAD__)
    __tsan_destroy_fiber(fibre.tsan);
#endif
    free(fibre.stack);
  }
  for (auto memory : shared) free(memory);
}
