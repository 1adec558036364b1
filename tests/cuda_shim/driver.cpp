// car_step through the CUDA kernel on a CPU, for ctypes.
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

template <class T, class A>
static void step(const void* logits, const int64_t* targets, const A* weights, const A* class_weights, A* ema,
                 int64_t* updates, A* direction, A* spectral_error, A* sigma, void* grad, const int64_t* shape,
                 const double* real, const int64_t* flag) {
  car::StepArguments<T, A> a{};
  a.logits = static_cast<const T*>(logits), a.targets = targets, a.sample_weights = weights, a.class_weights = class_weights;
  a.ema = ema, a.updates = updates, a.direction = direction, a.spectral_error = spectral_error;
  a.sigma = sigma, a.grad = static_cast<T*>(grad);
  a.samples = shape[0], a.classes = shape[1], a.spatial = shape[2];
  a.stride_n = shape[3], a.stride_k = shape[4], a.stride_s = shape[5];
  a.beta = static_cast<A>(real[0]), a.gamma = static_cast<A>(real[1]), a.inv_temperature = static_cast<A>(1 / real[2]);
  a.beta_exact = real[0], a.tolerance = real[3];
  a.softmax_over_all = flag[0], a.detach_gate = flag[1], a.start_from_first_batch = flag[2];
  a.hold_absent = flag[3], a.debias = flag[4], a.ignore_index = flag[5], a.max_iterations = flag[6];
  run_step(a, {static_cast<int>(flag[7]), flag[8]});
}

#define ENTRY(NAME, T, A)                                                                                               \
  extern "C" void NAME(const void* logits, const int64_t* targets, const A* weights, const A* class_weights, A* ema,    \
                       int64_t* updates, A* direction, A* spectral_error, A* sigma, void* grad, const int64_t* shape,   \
                       const double* real, const int64_t* flag) {                                                       \
    step<T, A>(logits, targets, weights, class_weights, ema, updates, direction, spectral_error, sigma, grad, shape,    \
               real, flag);                                                                                             \
  }
ENTRY(car_step_float32, float, float)
ENTRY(car_step_float64, double, double)
ENTRY(car_step_float16, Half, float)
ENTRY(car_step_bfloat16, BFloat16, float)
