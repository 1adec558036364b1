// car_ext::confusion and its gradient on CUDA: the kernel's phases that concern the batch alone.
#include "launch.h"

namespace car {
namespace {

std::tuple<Tensor, Tensor> confusion(const Tensor& logits_, const Tensor& targets_,
                                     const std::optional<Tensor>& sample_weights, double gamma, double temperature,
                                     bool softmax_over_all, bool detach_gate, int64_t ignore_index) {
  const Options o = options_of_batch(gamma, temperature, softmax_over_all, detach_gate, ignore_index);
  torch::stable::accelerator::DeviceGuard guard(logits_.get_device_index());
  check_samples(logits_, targets_, sample_weights, o);
  const Tensor logits = collapsible(logits_), targets = torch::stable::contiguous(targets_);
  const std::optional<Tensor> weights = contiguous(sample_weights);
  const int64_t classes = logits.size(1);
  Tensor matrix = empty_on(logits, {classes, classes}, state_dtype(logits));
  Tensor mass = empty_on(logits, {classes}, state_dtype(logits));
  try {
    CAR_DISPATCH(logits.scalar_type(), "confusion", [&] {
      using A = typename Accumulate<scalar_t>::type;
      StepArguments<scalar_t, A> a = arguments_of<scalar_t, A>(logits, targets, weights, o);
      a.ema = matrix.mutable_data_ptr<A>();
      a.mass = mass.mutable_data_ptr<A>();
      launch(a, Work::confusion, logits);
    });
  } catch (const NoKernelImage&) {
    return call_reference<Tensor, Tensor>("car_ext::confusion_reference", logits_, targets_, sample_weights, gamma,
                                          temperature, softmax_over_all, detach_gate, ignore_index);
  }
  return {matrix, mass};
}

Tensor confusion_backward(const Tensor& upstream_, const Tensor& logits_, const Tensor& targets_,
                          const std::optional<Tensor>& sample_weights, Tensor mass, double gamma, double temperature,
                          bool softmax_over_all, bool detach_gate, int64_t ignore_index) {
  const Options o = options_of_batch(gamma, temperature, softmax_over_all, detach_gate, ignore_index);
  torch::stable::accelerator::DeviceGuard guard(logits_.get_device_index());
  const Tensor upstream = torch::stable::contiguous(upstream_);
  check_samples(logits_, targets_, sample_weights, o);
  check_upstream(upstream, mass, logits_);
  const Tensor logits = collapsible(logits_), targets = torch::stable::contiguous(targets_);
  const std::optional<Tensor> weights = contiguous(sample_weights);
  Tensor grad = empty_on(logits, logits.sizes(), logits.scalar_type());
  try {
    CAR_DISPATCH(logits.scalar_type(), "confusion_backward", [&] {
      using A = typename Accumulate<scalar_t>::type;
      StepArguments<scalar_t, A> a = arguments_of<scalar_t, A>(logits, targets, weights, o);
      a.grad = grad.mutable_data_ptr<scalar_t>();
      a.upstream = upstream.const_data_ptr<A>();
      a.mass = mass.mutable_data_ptr<A>();
      launch(a, Work::confusion_backward, logits);
    });
  } catch (const NoKernelImage&) {
    return std::get<0>(call_reference<Tensor>("car_ext::confusion_backward_reference", upstream_, logits_, targets_,
                                              sample_weights, mass, gamma, temperature, softmax_over_all, detach_gate,
                                              ignore_index));
  }
  return grad;
}

}  // namespace
}  // namespace car

STABLE_TORCH_LIBRARY_IMPL(car_ext, CUDA, m) {
  m.impl("confusion", TORCH_BOX(&car::confusion));
  m.impl("confusion_backward", TORCH_BOX(&car::confusion_backward));
}
