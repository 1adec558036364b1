// car_ext::spectral_norm on CUDA: a step without samples, of which the iteration remains.
#include "launch.h"

namespace car {
namespace {

std::tuple<Tensor, Tensor, Tensor, Tensor> spectral_norm(const Tensor& matrix_, const std::optional<Tensor>& start,
                                                         double tolerance, int64_t max_iterations) {
  torch::stable::accelerator::DeviceGuard guard(matrix_.get_device_index());
  check_matrix(matrix_, start, tolerance, max_iterations);
  const Tensor matrix = torch::stable::contiguous(matrix_);
  const ScalarType dtype = matrix.scalar_type();
  const int64_t classes = matrix.size(0);
  Tensor sigma = empty_on(matrix, {}, dtype), error = empty_on(matrix, {}, dtype);
  Tensor left = empty_on(matrix, {classes}, dtype), right = empty_on(matrix, {classes}, dtype);
  if (start) torch::stable::copy_(right, *start);
  else torch::stable::fill_(right, 1 / std::sqrt(static_cast<double>(classes)));
  const auto run = [&](auto zero) {
    using A = decltype(zero);
    StepArguments<A, A> a{};
    a.samples = 0, a.classes = classes, a.spatial = 1, a.inv_temperature = 1;
    a.hold_absent = true;  // the matrix is read only
    a.tolerance = tolerance, a.max_iterations = max_iterations;
    a.ema = const_cast<A*>(matrix.const_data_ptr<A>());
    a.direction = right.mutable_data_ptr<A>();
    a.other_direction = left.mutable_data_ptr<A>();
    a.sigma = sigma.mutable_data_ptr<A>();
    a.spectral_error = error.mutable_data_ptr<A>();
    launch(a, Work::step, matrix);
  };
  try {
    if (dtype == ScalarType::Double) run(0.);
    else run(0.f);
  } catch (const NoKernelImage&) {
    return call_reference<Tensor, Tensor, Tensor, Tensor>("car_ext::spectral_norm_reference", matrix_, start, tolerance,
                                                          max_iterations);
  }
  return {sigma, left, right, error};
}

}  // namespace
}  // namespace car

STABLE_TORCH_LIBRARY_IMPL(car_ext, CUDA, m) { m.impl("spectral_norm", TORCH_BOX(&car::spectral_norm)); }
