// The kernel for every dtype, without torch: what tests/test_cuda_resources.py compiles.
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include "../../../csrc/cuda/kernel.cuh"

#define INSTANCE(T, A) \
  template __global__ void car::car_step_kernel<T, A>(const __grid_constant__ car::StepArguments<T, A>, unsigned);
INSTANCE(float, float)
INSTANCE(__half, float)
INSTANCE(__nv_bfloat16, float)
INSTANCE(double, double)
