// Just enough CUDA to run csrc/cuda/kernels.cuh on a CPU: a block is a group of threads, blocks run one after another.
#pragma once

#include <barrier>
#include <cmath>
#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __shared__ static  // one block at a time, so one copy for its threads

struct Index { unsigned x; };
inline thread_local Index threadIdx{0}, blockIdx{0};
inline Index blockDim{1}, gridDim{1};

struct Warp {
  std::barrier<> gate{32};
  double slot[32];
};
inline std::unique_ptr<std::barrier<>> block_gate;
inline std::vector<std::unique_ptr<Warp>> warps;

inline void __syncthreads() { block_gate->arrive_and_wait(); }

template <class T>
T __shfl_xor_sync(unsigned, T value, int lane_mask) {
  Warp& warp = *warps[threadIdx.x / 32];
  const unsigned lane = threadIdx.x % 32;
  warp.slot[lane] = value;
  warp.gate.arrive_and_wait();
  const T other = static_cast<T>(warp.slot[lane ^ lane_mask]);
  warp.gate.arrive_and_wait();
  return other;
}

template <class Kernel, class Arguments>
void launch(Kernel kernel, unsigned blocks, unsigned threads, const Arguments& arguments) {
  blockDim.x = threads;
  gridDim.x = blocks;
  warps.clear();
  for (unsigned w = 0; w < threads / 32; ++w) warps.push_back(std::make_unique<Warp>());
  for (unsigned b = 0; b < blocks; ++b) {
    block_gate = std::make_unique<std::barrier<>>(threads);
    std::vector<std::thread> group;
    for (unsigned t = 0; t < threads; ++t)
      group.emplace_back([&, t] {
        threadIdx.x = t;
        blockIdx.x = b;
        kernel(arguments);
      });
    for (auto& thread : group) thread.join();
  }
}
