// car_ext::car_step on CUDA: workspace, launches and registration. The kernels are in kernels.cuh.
#include <cuda_runtime.h>
#include <torch/csrc/stable/accelerator.h>

#include "../car_ops.h"
#include "kernels.cuh"

namespace car {
namespace {

cudaStream_t current_stream(const Tensor& t) {
  void* stream = nullptr;
  STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(t.get_device_index(), &stream));
  return static_cast<cudaStream_t>(stream);
}

template <class T>
std::tuple<Tensor, Tensor> step(const Tensor& logits_, const Tensor& targets_, const std::optional<Tensor>& weights_,
                                const Tensor& class_weights, Tensor& ema, Tensor& updates, Tensor& direction,
                                Tensor& spectral_error, const Options& o) {
  using A = typename Accumulate<T>::type;
  const Tensor logits = collapsible(logits_), targets = torch::stable::contiguous(targets_);
  std::optional<Tensor> weights;
  if (weights_) weights = torch::stable::contiguous(*weights_);
  const Rows rows = rows_of(logits);
  const int64_t b = rows.samples, k = rows.classes;

  const auto device = logits.device();
  Tensor grad = torch::stable::empty(logits.sizes(), logits.scalar_type(), std::nullopt, device);
  Tensor sigma = torch::stable::empty({}, ema.scalar_type(), std::nullopt, device);
  Tensor workspace = torch::stable::empty({2 * b + (4 + 2 * kMaxSubspace) * k}, ema.scalar_type(), std::nullopt, device);
  A* free_space = workspace.mutable_data_ptr<A>();
  const auto take = [&](int64_t count) { A* start = free_space; free_space += count; return start; };

  StepArguments<T, A> a{};
  a.logits = logits.const_data_ptr<T>();
  a.targets = targets.const_data_ptr<int64_t>();
  a.sample_weights = weights ? weights->const_data_ptr<A>() : nullptr;
  a.class_weights = class_weights.const_data_ptr<A>();
  a.ema = ema.mutable_data_ptr<A>();
  a.updates = updates.mutable_data_ptr<int64_t>();
  a.direction = direction.mutable_data_ptr<A>();
  a.spectral_error = spectral_error.mutable_data_ptr<A>();
  a.sigma = sigma.mutable_data_ptr<A>();
  a.grad = grad.mutable_data_ptr<T>();
  a.samples = b, a.classes = k, a.spatial = rows.spatial;
  a.stride_n = rows.stride_n, a.stride_k = rows.stride_k, a.stride_s = rows.stride_s;
  a.beta = static_cast<A>(o.beta), a.gamma = static_cast<A>(o.gamma), a.inv_temperature = static_cast<A>(1 / o.temperature);
  a.beta_exact = o.beta, a.tolerance = o.tolerance;
  a.softmax_over_all = o.softmax_over_all, a.detach_gate = o.detach_gate;
  a.start_from_first_batch = o.start_from_first_batch, a.hold_absent = o.hold_absent, a.debias = o.debias;
  a.ignore_index = o.ignore_index, a.max_iterations = o.max_iterations;
  a.row_top = take(b), a.row_scale = take(b);
  a.column_scale = take(k), a.coefficient = take(k), a.left = take(k), a.next = take(k);
  a.basis = take(kMaxSubspace * k), a.images = take(kMaxSubspace * k);

  const cudaStream_t stream = current_stream(logits);
  const auto blocks = [](int64_t wanted) { return static_cast<unsigned>(std::min<int64_t>(wanted, 1 << 20)); };
  if (b > 0) {
    row_statistics<<<blocks(b), kRowThreads, 0, stream>>>(a);
    STD_CUDA_KERNEL_LAUNCH_CHECK();
  }
  class_update<<<blocks(k), kClassThreads, 0, stream>>>(a);
  STD_CUDA_KERNEL_LAUNCH_CHECK();
  spectral<<<1, kSpectralThreads, 0, stream>>>(a);
  STD_CUDA_KERNEL_LAUNCH_CHECK();
  if (b > 0) {
    gradient<<<blocks(b), kRowThreads, 0, stream>>>(a);
    STD_CUDA_KERNEL_LAUNCH_CHECK();
  }
  return {sigma, grad};
}

std::tuple<Tensor, Tensor> car_step(const Tensor& logits, const Tensor& targets, const std::optional<Tensor>& sample_weights,
                                    const Tensor& class_weights, Tensor ema, Tensor updates, Tensor direction,
                                    Tensor spectral_error, double beta, double gamma, double temperature,
                                    bool softmax_over_all, bool detach_gate, bool start_from_first_batch, bool hold_absent,
                                    bool debias, int64_t ignore_index, double tolerance, int64_t max_iterations) {
  const Options o{beta, gamma, temperature, softmax_over_all, detach_gate, start_from_first_batch, hold_absent, debias,
                  ignore_index, tolerance, max_iterations};
  torch::stable::accelerator::DeviceGuard guard(logits.get_device_index());
  check_step(logits, targets, sample_weights, class_weights, ema, updates, direction, spectral_error, o);
  std::tuple<Tensor, Tensor> result;
  CAR_DISPATCH(logits.scalar_type(), "car_step", [&] {
    result = step<scalar_t>(logits, targets, sample_weights, class_weights, ema, updates, direction, spectral_error, o);
  });
  return result;
}

}  // namespace
}  // namespace car

STABLE_TORCH_LIBRARY_IMPL(car_ext, CUDA, m) { m.impl("car_step", TORCH_BOX(&car::car_step)); }
