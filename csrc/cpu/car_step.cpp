// car_ext::car_step on the CPU: surrogate, moving average, weighting, spectral norm and gradient in one call.
//
// Same bits at any thread count: every sum belongs to one sample, one class or one fixed block of classes, and the
// blocks' partial sums are added in order.
#include <memory>

#include "batch.h"
#include "gram.h"
#include "lanczos.h"

namespace car {
namespace {

// v of every sample, (samples, K). Throws on the first row that holds NaN or +inf; nothing has been changed by then.
template <class T, class A>
void surrogate(const Batch<T>& batch, vector::RowStatistics<A>* statistics, A* v) {
  FirstBad bad(batch.samples);
  parallel_for(0, batch.samples, grain(batch.classes + kWorkPerRow), [&](int64_t from, int64_t to) {
    RowScratch<A> scratch(batch.classes, batch.longest_run());
    for (int64_t begin = from, end; begin < to; begin = end) {
      end = batch.run_end(begin, to);
      batch.read(begin, end, scratch.z());
      for (int64_t q = begin; q < end; ++q) {
        if (batch.ignored(q)) continue;
        if (vector::surrogate_row(scratch.z(q - begin), batch.classes, batch.targets[q], batch.form, statistics[q],
                                  scratch.e(), scratch.g(), scratch.out()))
          std::copy_n(scratch.out(), batch.classes, v + q * batch.classes);
        else
          bad.meet(q);
      }
    }
  });
  bad.raise_if_any();
}

// Column j of the moving average (a row of `ema`, which is stored by true class). Returns the factor that a batch's
// column enters with, for the gradient: 0 where it does not enter or enters as a constant.
template <class T, class A>
double update_class(A* row, int64_t& updates, int64_t j, const ClassIndex& index, const Batch<T>& batch, const A* v,
                    const Options& o) {
  const int64_t classes = batch.classes;
  const bool absent = !(index.mass[j] > 0);
  if (absent && o.hold_absent) return 0;
  const bool first = o.start_from_first_batch && updates == 0;
  const double keep = first ? 0 : o.beta, take = first ? 1 : 1 - o.beta;
  ++updates;
  vector::scale_by(row, static_cast<A>(keep), classes);
  if (absent) return 0;
  for (int64_t at = index.begin[j]; at < index.begin[j + 1]; ++at) {
    const int64_t q = index.sample[at];
    vector::add_to(row, static_cast<A>(take / index.mass[j] * batch.weight(q)), v + q * classes, classes);
  }
  return first ? 0 : take;
}

template <class T>
std::tuple<Tensor, Tensor> step(const Tensor& logits, const Tensor& targets, const std::optional<Tensor>& weights,
                                const Tensor& class_weights, Tensor& ema, Tensor& updates, Tensor& direction,
                                Tensor& spectral_error, const Options& o) {
  using A = typename Accumulate<T>::type;
  const Batch<T> batch(logits, targets, weights, o);
  const ClassIndex index(batch);
  const int64_t classes = batch.classes;
  Tensor grad = torch::stable::empty(logits.sizes(), logits.scalar_type());
  Tensor sigma = torch::stable::empty({}, ema.scalar_type());
  T* grad_out = grad.mutable_data_ptr<T>();

  // v needs (samples, K) of A until the average is up to date: the gradient's own memory where that has as much.
  std::unique_ptr<A[]> own;
  if (!std::is_same_v<T, A>) own.reset(new A[static_cast<size_t>(batch.samples) * classes]);
  A* v = own ? own.get() : reinterpret_cast<A*>(grad_out);
  std::vector<vector::RowStatistics<A>> statistics(batch.samples);
  surrogate(batch, statistics.data(), v);

  // M = ema^T diag(column_scale). The first call also brings the average up to date, row by row as it reads it.
  A* matrix = ema.mutable_data_ptr<A>();
  int64_t* counts = updates.mutable_data_ptr<int64_t>();
  const A* lambda = class_weights.const_data_ptr<A>();
  std::vector<A> column_scale(classes), entered(classes);
  Gram<A> gram(classes);
  bool updated = false;
  const auto update = [&](int64_t j) {
    if (updated) return;
    entered[j] = static_cast<A>(update_class(matrix + j * classes, counts[j], j, index, batch, v, o));
    column_scale[j] = static_cast<A>(lambda[j] / (o.debias ? filled_share(o.beta, counts[j]) : 1.));
  };
  const auto apply = [&](const A* q, A* t, A* out) {
    gram.apply(matrix, column_scale.data(), q, t, out, update);
    updated = true;
  };
  const TopTriple<A> top =
      top_singular<A>(direction.const_data_ptr<A>(), classes, o.tolerance, o.max_iterations, apply);

  *sigma.mutable_data_ptr<A>() = static_cast<A>(top.sigma);
  *spectral_error.mutable_data_ptr<A>() = static_cast<A>(top.error);
  if (top.sigma > 0) std::copy(top.u.begin(), top.u.end(), direction.mutable_data_ptr<A>());

  // d sigma / d M = u w^T (simple top singular value), so d sigma / d v_q = coefficient_q * u.
  const auto coefficient = [&](int64_t q) {
    const int64_t j = batch.targets[q];
    if (!(index.mass[j] > 0)) return A(0);
    return static_cast<A>(entered[j] * column_scale[j] * top.w[j] / index.mass[j]) * batch.weight(q);
  };
  const auto direction_of = [&](int64_t) { return top.u.data(); };
  const auto statistics_of = [&](int64_t q, int64_t, RowScratch<A>&) { return statistics[q]; };
  gradient_of_rows(batch, coefficient, direction_of, statistics_of, grad_out);
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
  check_step(logits, targets, sample_weights, class_weights, ema, updates, direction, spectral_error, o);
  std::tuple<Tensor, Tensor> result;
  CAR_DISPATCH(logits.scalar_type(), "car_step", [&] {
    result = step<scalar_t>(logits, targets, sample_weights, class_weights, ema, updates, direction, spectral_error, o);
  });
  return result;
}

Tensor attach_gradient(const Tensor&, const Tensor& loss, const Tensor&) { return torch::stable::clone(loss); }

}  // namespace
}  // namespace car

STABLE_TORCH_LIBRARY_IMPL(car_ext, CPU, m) { m.impl("car_step", TORCH_BOX(&car::car_step)); }
STABLE_TORCH_LIBRARY_IMPL(car_ext, CompositeExplicitAutograd, m) {
  m.impl("attach_gradient", TORCH_BOX(&car::attach_gradient));
}
