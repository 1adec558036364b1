// The operators through the CUDA kernel on a CPU, for ctypes.
#include "step.h"

// bfloat16 and float16 as 16-bit storage; g++ computes in float.
using Half = _Float16;
struct BFloat16 {
  uint16_t bits;
  BFloat16() = default;
  explicit BFloat16(float x) {
    uint32_t wide;
    std::memcpy(&wide, &x, 4);
    bits = x != x ? 0x7fc0 : static_cast<uint16_t>((wide + 0x7fff + (wide >> 16 & 1)) >> 16);  // to nearest even
  }
  explicit operator float() const {
    const uint32_t wide = static_cast<uint32_t>(bits) << 16;
    float x;
    std::memcpy(&x, &wide, 4);
    return x;
  }
};

// `tensor` in the order below, null where the work has no such tensor.
template <class T, class A>
static void run_on_shim(void* const* tensor, const int64_t* shape, const double* real, const int64_t* flag) {
  car::StepArguments<T, A> a{};
  const auto next = [&](auto*& pointer) { pointer = static_cast<std::remove_reference_t<decltype(pointer)>>(*tensor++); };
  next(a.logits), next(a.targets), next(a.sample_weights), next(a.class_weights), next(a.ema), next(a.updates);
  next(a.direction), next(a.spectral_error), next(a.sigma), next(a.grad);
  next(a.other_direction), next(a.mass), next(a.upstream);
  a.samples = shape[0], a.classes = shape[1], a.spatial = shape[2];
  a.stride_n = shape[3], a.stride_k = shape[4], a.stride_s = shape[5];
  a.beta = static_cast<A>(real[0]), a.gamma = static_cast<A>(real[1]), a.inv_temperature = static_cast<A>(1 / real[2]);
  a.beta_exact = real[0], a.tolerance = real[3];
  a.softmax_over_all = flag[0], a.detach_gate = flag[1], a.start_from_first_batch = flag[2];
  a.hold_absent = flag[3], a.debias = flag[4], a.ignore_index = flag[5], a.max_iterations = flag[6];
  run(a, static_cast<Work>(flag[7]), {static_cast<int>(flag[8]), flag[9], flag[10] != 0});
}

#define ENTRY(NAME, T, A)                                                                                              \
  extern "C" void NAME(void* const* tensor, const int64_t* shape, const double* real, const int64_t* flag) {           \
    run_on_shim<T, A>(tensor, shape, real, flag);                                                                      \
  }
ENTRY(run_float32, float, float)
ENTRY(run_float64, double, double)
ENTRY(run_float16, Half, float)
ENTRY(run_bfloat16, BFloat16, float)
