// car_ext::car_step on CUDA: workspace, launches and registration. The kernel is in kernel.cuh.
#include <cuda_runtime.h>
#include <torch/csrc/stable/accelerator.h>

#include <cstdint>

#include "../car_ops.h"
#include "kernel.cuh"

namespace car {
namespace {

cudaStream_t current_stream(const Tensor& t) {
  void* stream = nullptr;
  STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(t.get_device_index(), &stream));
  return static_cast<cudaStream_t>(stream);
}

struct Device {
  int multiprocessors, shared_memory, cooperative;
};

int attribute(cudaDeviceAttr which, int device) {
  int value = 0;
  STD_CUDA_CHECK(cudaDeviceGetAttribute(&value, which, device));
  return value;
}

Device device_of(const Tensor& t) {
  const int device = t.get_device_index();
  return {attribute(cudaDevAttrMultiProcessorCount, device), attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin, device),
          attribute(cudaDevAttrCooperativeLaunch, device)};
}

// One block a multiprocessor, as many as can wait for each other; 1 where none can.
template <class T, class A>
int resident_blocks(const Device& device) {
  if (!device.cooperative) return 1;
  int each = 0;
  STD_CUDA_CHECK(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&each, car_step_kernel<T, A>, kThreads<A>, device.shared_memory));
  return each > 0 ? device.multiprocessors : 1;
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
  require(rows.samples <= INT32_MAX, "car_step takes at most ", INT32_MAX, " samples a call on CUDA, got ", rows.samples);

  const auto on = logits.device();
  Tensor grad = torch::stable::empty(logits.sizes(), logits.scalar_type(), std::nullopt, on);
  Tensor sigma = torch::stable::empty({}, ema.scalar_type(), std::nullopt, on);

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
  a.samples = rows.samples, a.classes = rows.classes, a.spatial = rows.spatial;
  a.stride_n = rows.stride_n, a.stride_k = rows.stride_k, a.stride_s = rows.stride_s;
  a.beta = static_cast<A>(o.beta), a.gamma = static_cast<A>(o.gamma), a.inv_temperature = static_cast<A>(1 / o.temperature);
  a.beta_exact = o.beta, a.tolerance = o.tolerance;
  a.softmax_over_all = o.softmax_over_all, a.detach_gate = o.detach_gate;
  a.start_from_first_batch = o.start_from_first_batch, a.hold_absent = o.hold_absent, a.debias = o.debias;
  a.ignore_index = o.ignore_index, a.max_iterations = o.max_iterations;

  const Device device = device_of(logits);
  STD_CUDA_CHECK(cudaFuncSetAttribute(car_step_kernel<T, A>, cudaFuncAttributeMaxDynamicSharedMemorySize, device.shared_memory));
  a.plan = make_plan<T, A>(a.samples, a.classes, resident_blocks<T, A>(device), device.shared_memory);
  a.places = places_of<T, A>(a.plan, a.classes);
  Tensor workspace = torch::stable::empty({lay_out<T, A>(a, nullptr)}, ema.scalar_type(), std::nullopt, on);
  lay_out(a, workspace.mutable_data_ptr<A>());

  const cudaStream_t stream = current_stream(logits);
  const auto launch = [&](Phase phase, int64_t blocks) {
    void* arguments[] = {&a, &phase};
    const auto kernel = reinterpret_cast<const void*>(&car_step_kernel<T, A>);
    const dim3 grid(static_cast<unsigned>(blocks));
    if (a.plan.together) STD_CUDA_CHECK(cudaLaunchCooperativeKernel(kernel, grid, kThreads<A>, arguments, a.places.bytes, stream));
    else STD_CUDA_CHECK(cudaLaunchKernel(kernel, grid, kThreads<A>, arguments, a.places.bytes, stream));
  };
  if (a.plan.together) {
    launch(Phase::all, a.plan.blocks);
  } else {
    const int64_t most = 4 * device.multiprocessors;
    if (a.samples > 0) launch(Phase::rows, std::min(a.samples, most));
    launch(Phase::classes, std::min(a.classes, most));
    launch(Phase::spectral, 1);
    if (a.samples > 0) launch(Phase::gradient, std::min(a.samples, most));
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
