// car_ext::car_step on CUDA.
#include "launch.h"

namespace car {
namespace {

template <class T>
std::tuple<Tensor, Tensor> step(const Tensor& logits_, const Tensor& targets_, const std::optional<Tensor>& weights_,
                                const Tensor& class_weights, Tensor& ema, Tensor& updates, Tensor& direction,
                                Tensor& spectral_error, const Options& o) {
  using A = typename Accumulate<T>::type;
  const Tensor logits = collapsible(logits_), targets = torch::stable::contiguous(targets_);
  const std::optional<Tensor> weights = contiguous(weights_);
  Tensor grad = empty_on(logits, logits.sizes(), logits.scalar_type());
  Tensor sigma = empty_on(logits, {}, ema.scalar_type());

  StepArguments<T, A> a = arguments_of<T, A>(logits, targets, weights, o);
  a.class_weights = class_weights.const_data_ptr<A>();
  a.ema = ema.mutable_data_ptr<A>();
  a.updates = updates.mutable_data_ptr<int64_t>();
  a.direction = direction.mutable_data_ptr<A>();
  a.spectral_error = spectral_error.mutable_data_ptr<A>();
  a.sigma = sigma.mutable_data_ptr<A>();
  a.grad = grad.mutable_data_ptr<T>();
  launch(a, Work::step, logits);
  return {sigma, grad};
}

std::tuple<Tensor, Tensor> car_step(const Tensor& logits, const Tensor& targets,
                                    const std::optional<Tensor>& sample_weights, const Tensor& class_weights,
                                    Tensor ema, Tensor updates, Tensor direction, Tensor spectral_error, double beta,
                                    double gamma, double temperature, bool softmax_over_all, bool detach_gate,
                                    bool start_from_first_batch, bool hold_absent, bool debias, int64_t ignore_index,
                                    double tolerance, int64_t max_iterations) {
  const Options o{.beta = beta,
                  .gamma = gamma,
                  .temperature = temperature,
                  .softmax_over_all = softmax_over_all,
                  .detach_gate = detach_gate,
                  .start_from_first_batch = start_from_first_batch,
                  .hold_absent = hold_absent,
                  .debias = debias,
                  .ignore_index = ignore_index,
                  .tolerance = tolerance,
                  .max_iterations = max_iterations};
  torch::stable::accelerator::DeviceGuard guard(logits.get_device_index());
  check_step(logits, targets, sample_weights, class_weights, ema, updates, direction, spectral_error, o);
  std::tuple<Tensor, Tensor> result;
  try {
    CAR_DISPATCH(logits.scalar_type(), "car_step", [&] {
      result =
          step<scalar_t>(logits, targets, sample_weights, class_weights, ema, updates, direction, spectral_error, o);
    });
  } catch (const NoKernelImage&) {
    return call_reference<Tensor, Tensor>("car_ext::car_step_reference", logits, targets, sample_weights, class_weights,
                                          ema, updates, direction, spectral_error, beta, gamma, temperature,
                                          softmax_over_all, detach_gate, start_from_first_batch, hold_absent, debias,
                                          ignore_index, tolerance, max_iterations);
  }
  return result;
}

}  // namespace
}  // namespace car

STABLE_TORCH_LIBRARY_IMPL(car_ext, CUDA, m) { m.impl("car_step", TORCH_BOX(&car::car_step)); }
