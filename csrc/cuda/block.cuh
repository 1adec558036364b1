// What the threads of a block, and the blocks of a grid, do together. Every sum runs in a fixed order.
#pragma once

#include <cstdint>

#if defined(__CUDACC__)
#include <cooperative_groups.h>
#include <cuda_pipeline.h>
#endif

#include "../car_math.h"

namespace car {

// As many as leave the kernel the registers it needs: 64 K a multiprocessor.
template <class A> constexpr int kThreads = sizeof(A) == 8 ? 256 : 384;
constexpr unsigned kFullWarp = 0xffffffffu;

#if defined(__CUDACC__)
__device__ inline unsigned char* shared_memory() {
  extern __shared__ __align__(16) unsigned char memory[];
  return memory;
}
#endif

__device__ inline int lane_id() { return threadIdx.x % 32; }
__device__ inline int warp_id() { return threadIdx.x / 32; }
__device__ inline int warp_count() { return blockDim.x / 32; }

// Waits for every block. A grid of one block needs no cooperative launch.
__device__ inline void grid_sync() {
  if (gridDim.x == 1) __syncthreads();
  else cooperative_groups::this_grid().sync();
}

template <class A>
__device__ A warp_sum(A x) {
  for (int offset = 16; offset > 0; offset /= 2) x += __shfl_xor_sync(kFullWarp, x, offset);
  return x;
}

template <class A>
__device__ A warp_max(A x) {
  for (int offset = 16; offset > 0; offset /= 2) {
    const A other = __shfl_xor_sync(kFullWarp, x, offset);
    x = other > x ? other : x;
  }
  return x;
}

// Over the block; every thread gets the result. `slots` holds one value a warp.
template <class A>
__device__ A block_sum(A x, A* slots) {
  x = warp_sum(x);
  __syncthreads();  // the slots may still be read from the last call
  if (lane_id() == 0) slots[warp_id()] = x;
#if !defined(CAR_SEED_MISSING_BARRIER)  // the tests compile it out to see that the race is found
  __syncthreads();
#endif
  A total = 0;
  for (int i = 0; i < warp_count(); ++i) total += slots[i];
  return total;
}

template <class A>
__device__ A block_max(A x, A* slots) {
  x = warp_max(x);
  __syncthreads();
  if (lane_id() == 0) slots[warp_id()] = x;
  __syncthreads();
  A top = slots[0];
  for (int i = 1; i < warp_count(); ++i) top = slots[i] > top ? slots[i] : top;
  return top;
}

// Sum of x over the block's lower threads.
__device__ inline int block_rank(int x, int* slots) {
  int sum = x;
  for (int offset = 1; offset < 32; offset *= 2) {
    const int lower = __shfl_up_sync(kFullWarp, sum, offset);
    if (lane_id() >= offset) sum += lower;
  }
  __syncthreads();
  if (lane_id() == 31) slots[warp_id()] = sum;
  __syncthreads();
  sum -= x;
  for (int i = 0; i < warp_id(); ++i) sum += slots[i];
  return sum;
}

// A row of logits is worked on by one warp or by the whole block.
template <bool Wide> __device__ int group_lane() { return Wide ? threadIdx.x : lane_id(); }
template <bool Wide> __device__ int group_size() { return Wide ? blockDim.x : 32; }
template <bool Wide, class A> __device__ A group_sum(A x, A* slots) {
  if constexpr (Wide) return block_sum(x, slots); else return warp_sum(x);
}
template <bool Wide, class A> __device__ A group_max(A x, A* slots) {
  if constexpr (Wide) return block_max(x, slots); else return warp_max(x);
}

// Where `source` will lie in a 16-byte aligned buffer so that both have the same alignment.
template <class A>
__device__ int alignment_shift(const A* source) {
  return static_cast<int>(reinterpret_cast<uintptr_t>(source) / sizeof(A) % (16 / sizeof(A)));
}

// Starts copying source[0..count) to buffer + alignment_shift(source), 16 bytes at a time where both are aligned.
template <class A>
__device__ void start_copy(A* buffer, const A* source, int64_t count) {
  constexpr int kEach = 16 / sizeof(A);
  const int shift = alignment_shift(source);
  for (int64_t v = threadIdx.x; v * kEach < shift + count; v += blockDim.x) {
    const int64_t from = v * kEach - shift;
    if (from >= 0 && from + kEach <= count) {
      __pipeline_memcpy_async(buffer + v * kEach, source + from, 16);
    } else {
      for (int64_t i = from < 0 ? 0 : from; i < from + kEach && i < count; ++i) buffer[shift + i] = source[i];
    }
  }
  __pipeline_commit();
}

}  // namespace car
