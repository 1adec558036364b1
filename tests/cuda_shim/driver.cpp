// car_step through the CUDA kernels on a CPU, for ctypes. Small blocks and few of them, so that strided loops loop.
#include "shim.h"

#include "../../csrc/cuda/kernels.cuh"

template <class A>
static void step(const A* logits, const int64_t* targets, const A* weights, const A* class_weights, A* ema,
                 int64_t* updates, A* direction, A* spectral_error, A* sigma, A* grad, const int64_t* shape,
                 const double* real, const int64_t* flag) {
  car::StepArguments<A, A> a{};
  a.logits = logits, a.targets = targets, a.sample_weights = weights, a.class_weights = class_weights;
  a.ema = ema, a.updates = updates, a.direction = direction, a.spectral_error = spectral_error;
  a.sigma = sigma, a.grad = grad;
  a.samples = shape[0], a.classes = shape[1], a.spatial = shape[2];
  a.stride_n = shape[3], a.stride_k = shape[4], a.stride_s = shape[5];
  a.beta = static_cast<A>(real[0]), a.gamma = static_cast<A>(real[1]), a.inv_temperature = static_cast<A>(1 / real[2]);
  a.beta_exact = real[0], a.tolerance = real[3];
  a.softmax_over_all = flag[0], a.detach_gate = flag[1], a.start_from_first_batch = flag[2];
  a.hold_absent = flag[3], a.debias = flag[4], a.ignore_index = flag[5], a.max_iterations = flag[6];
  std::vector<A> rows(2 * a.samples), columns((4 + 2 * car::kMaxSubspace) * a.classes);
  A* next = columns.data();
  const auto take = [&](int64_t n) { A* start = next; next += n; return start; };
  a.row_top = rows.data(), a.row_scale = rows.data() + a.samples;
  a.column_scale = take(a.classes), a.coefficient = take(a.classes), a.left = take(a.classes), a.next = take(a.classes);
  a.basis = take(car::kMaxSubspace * a.classes), a.images = take(car::kMaxSubspace * a.classes);
  launch(car::row_statistics<A, A>, 2, 32, a);
  launch(car::class_update<A, A>, 3, 64, a);
  launch(car::spectral<A, A>, 1, 64, a);
  launch(car::gradient<A, A>, 2, 64, a);
}

#define ENTRY(NAME, A)                                                                                              \
  extern "C" void NAME(const A* logits, const int64_t* targets, const A* weights, const A* class_weights, A* ema,   \
                       int64_t* updates, A* direction, A* spectral_error, A* sigma, A* grad, const int64_t* shape,  \
                       const double* real, const int64_t* flag) {                                                   \
    step<A>(logits, targets, weights, class_weights, ema, updates, direction, spectral_error, sigma, grad, shape,   \
            real, flag);                                                                                            \
  }
ENTRY(car_step_float, float)
ENTRY(car_step_double, double)
