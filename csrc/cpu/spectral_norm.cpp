// car_ext::spectral_norm on the CPU.
#include "../car_ops.h"
#include "gram.h"
#include "lanczos.h"

namespace car {
namespace {

// The matrix X is M^T in lanczos.h: its right vector is u there, its left one w.
template <class A>
std::tuple<Tensor, Tensor, Tensor, Tensor> run(const Tensor& matrix, const std::optional<Tensor>& start,
                                               double tolerance, int64_t max_iterations) {
  const int64_t n = matrix.size(0);
  const A* x = matrix.const_data_ptr<A>();
  std::vector<A> from(n, static_cast<A>(1 / std::sqrt(static_cast<double>(n))));
  if (start) std::copy_n(torch::stable::contiguous(*start).const_data_ptr<A>(), n, from.begin());

  Gram<A> gram(n);
  const std::vector<A> ones(n, A(1));
  const auto apply = [&](const A* q, A* t, A* out) { gram.apply(x, ones.data(), q, t, out, [](int64_t) {}); };
  TopTriple<A> top = top_singular<A>(from.data(), n, tolerance, max_iterations, apply);
  if (std::isnan(top.sigma)) {
    for (int64_t i = 0; i < n; ++i) require(std::isfinite(from[i]), "start holds ", from[i], " at ", i);
    for (int64_t at = 0; at < n * n; ++at)
      require(std::isfinite(x[at]), "matrix holds ", x[at], " in row ", at / n, ", column ", at % n,
              "; a spectral norm needs finite entries");
    require(false, "the matrix's entries are too large for this dtype to hold their squares; scale it down");
  }

  const auto tensor_of = [&](const std::vector<A>& values) {
    Tensor t = torch::stable::empty({n}, matrix.scalar_type());
    std::copy(values.begin(), values.end(), t.mutable_data_ptr<A>());
    return t;
  };
  Tensor sigma = torch::stable::empty({}, matrix.scalar_type()), error = torch::stable::empty({}, matrix.scalar_type());
  *sigma.mutable_data_ptr<A>() = static_cast<A>(top.sigma);
  *error.mutable_data_ptr<A>() = static_cast<A>(top.error);
  return {sigma, tensor_of(top.w), tensor_of(top.sigma > 0 ? top.u : from), error};
}

std::tuple<Tensor, Tensor, Tensor, Tensor> spectral_norm(const Tensor& matrix_, const std::optional<Tensor>& start,
                                                         double tolerance, int64_t max_iterations) {
  check_matrix(matrix_, start, tolerance, max_iterations);
  const Tensor matrix = torch::stable::contiguous(matrix_);
  if (matrix.scalar_type() == ScalarType::Double) return run<double>(matrix, start, tolerance, max_iterations);
  return run<float>(matrix, start, tolerance, max_iterations);
}

}  // namespace
}  // namespace car

STABLE_TORCH_LIBRARY_IMPL(car_ext, CPU, m) { m.impl("spectral_norm", TORCH_BOX(&car::spectral_norm)); }
