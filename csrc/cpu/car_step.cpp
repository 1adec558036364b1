// car_ext::car_step on the CPU: surrogate, moving average, weighting, spectral norm and gradient in one call.
//
// Same bits at any thread count: every sum belongs to one sample, one class or one fixed block of classes, and the
// blocks' partial sums are added in order.
#include <atomic>
#include <memory>

#include "../car_ops.h"
#include "lanczos.h"

namespace car {
namespace {

using torch::stable::parallel_for;

constexpr int64_t kWorkPerTask = 8192;  // elements below which a second thread costs more than it saves
constexpr int64_t kMaxBlocks = 16;

int64_t grain(int64_t elements_each) { return std::max<int64_t>(1, kWorkPerTask / std::max<int64_t>(1, elements_each)); }

// Which samples belong to which class, in sample order (ignored samples in none), and n_j = the sum of their weights.
template <class A>
struct ClassIndex {
  std::vector<int64_t> begin, sample;
  std::vector<double> mass;

  ClassIndex(const int64_t* targets, const A* weights, int64_t samples, int64_t classes, int64_t ignore_index)
      : begin(classes + 1, 0), mass(classes, 0.) {
    for (int64_t q = 0; q < samples; ++q) {
      if (targets[q] == ignore_index) continue;
      require(targets[q] >= 0 && targets[q] < classes, "targets hold class ", targets[q], " at position ", q,
                      ", but logits have ", classes, " classes (0 to ", classes - 1, "); relabel it or pass it as ignore_index");
      const double weight = weights ? weights[q] : A(1);
      require(weight >= 0 && std::isfinite(weight), "sample_weights must be finite and not negative, got ", weight, " at position ", q);
      ++begin[targets[q] + 1];
      mass[targets[q]] += weight;
    }
    for (int64_t j = 0; j < classes; ++j) begin[j + 1] += begin[j];
    sample.resize(begin[classes]);
    std::vector<int64_t> next(begin.begin(), begin.end() - 1);
    for (int64_t q = 0; q < samples; ++q)
      if (targets[q] != ignore_index) sample[next[targets[q]]++] = q;
  }
};

template <class From, class To>
void copy_row(const From* from, int64_t from_stride, To* to, int64_t to_stride, int64_t classes) {
  if (from_stride == 1 && to_stride == 1) {
    if constexpr (std::is_same_v<From, To>) std::copy_n(from, classes, to);
    else for (int64_t i = 0; i < classes; ++i) to[i] = static_cast<To>(from[i]);
  } else {
    for (int64_t i = 0; i < classes; ++i) to[i * to_stride] = static_cast<To>(from[i * from_stride]);
  }
}

template <class T, class A>
void read_row(const T* logits, const Rows& rows, int64_t sample, A* z) {
  copy_row(logits + rows.offset(sample), rows.stride_k, z, 1, rows.classes);
}

// Five padded rows of scratch; the first is for logits.
template <class A>
struct RowScratch {
  int64_t padded;
  std::vector<A> memory;

  explicit RowScratch(int64_t classes) : padded(vector::padded(classes)), memory(5 * padded) {
    std::fill_n(memory.data(), padded, std::numeric_limits<A>::lowest());
  }
  A* row(int which) { return memory.data() + which * padded; }
};

// v of every sample, (samples, K). Throws on the first row that holds NaN or +inf; nothing has been changed by then.
template <class T, class A>
void surrogate(const T* logits, const int64_t* targets, const Rows& rows, const vector::Surrogate<A>& form,
               int64_t ignore_index, vector::RowStatistics<A>* statistics, A* v) {
  std::atomic<int64_t> first_bad{rows.samples};
  parallel_for(0, rows.samples, grain(rows.classes), [&](int64_t from, int64_t to) {
    RowScratch<A> scratch(rows.classes);
    A *z = scratch.row(0), *e = scratch.row(1), *g = scratch.row(2), *out = scratch.row(3);
    for (int64_t q = from; q < to; ++q) {
      if (targets[q] == ignore_index) continue;
      read_row(logits, rows, q, z);
      if (vector::surrogate_row(z, rows.classes, targets[q], form, statistics[q], e, g, out)) {
        std::copy_n(out, rows.classes, v + q * rows.classes);
        continue;
      }
      int64_t seen = first_bad.load();
      while (q < seen && !first_bad.compare_exchange_weak(seen, q)) {}
    }
  });
  require(first_bad == rows.samples, "logits of sample ", first_bad.load(),
                  " hold NaN or infinity; the model has diverged: lower the learning rate or clip gradients");
}

// Column j of the moving average (a row of `ema`, which is stored by true class). Returns the factor that a batch's
// column enters with, for the gradient: 0 where it does not enter or enters as a constant.
template <class A>
double update_class(A* row, int64_t& updates, int64_t j, const ClassIndex<A>& index, const A* weights, const A* v,
                    int64_t classes, const Options& o) {
  const bool absent = !(index.mass[j] > 0);
  if (absent && o.hold_absent) return 0;
  const bool first = o.start_from_first_batch && updates == 0;
  const double keep = first ? 0 : o.beta, take = first ? 1 : 1 - o.beta;
  ++updates;
  vector::scale_by(row, static_cast<A>(keep), classes);
  if (absent) return 0;
  for (int64_t at = index.begin[j]; at < index.begin[j + 1]; ++at) {
    const int64_t q = index.sample[at];
    vector::add_to(row, static_cast<A>(take / index.mass[j] * (weights ? weights[q] : A(1))), v + q * classes, classes);
  }
  return first ? 0 : take;
}

template <class T>
std::tuple<Tensor, Tensor> step(const Tensor& logits_, const Tensor& targets_, const std::optional<Tensor>& weights_,
                                const Tensor& class_weights, Tensor& ema, Tensor& updates, Tensor& direction,
                                Tensor& spectral_error, const Options& o) {
  using A = typename Accumulate<T>::type;
  const Tensor logits = collapsible(logits_), targets = torch::stable::contiguous(targets_);
  const Rows rows = rows_of(logits);
  const int64_t classes = rows.classes;
  const T* z = logits.const_data_ptr<T>();
  const int64_t* y = targets.const_data_ptr<int64_t>();
  std::optional<Tensor> weights_tensor;
  if (weights_) weights_tensor = torch::stable::contiguous(*weights_);
  const A* weights = weights_tensor ? weights_tensor->const_data_ptr<A>() : nullptr;
  const vector::Surrogate<A> form{static_cast<A>(o.gamma), static_cast<A>(1 / o.temperature), o.softmax_over_all, o.detach_gate};

  Tensor grad = torch::stable::empty(logits.sizes(), logits.scalar_type());
  Tensor sigma = torch::stable::empty({}, ema.scalar_type());
  T* grad_out = grad.mutable_data_ptr<T>();

  const ClassIndex<A> index(y, weights, rows.samples, classes, o.ignore_index);
  {
    // v needs (samples, K) of A: the gradient's own memory where it has that form.
    std::unique_ptr<A[]> own;
    A* v = nullptr;
    if constexpr (std::is_same_v<T, A>) if (rows.spatial == 1) v = grad_out;
    if (!v) { own.reset(new A[static_cast<size_t>(rows.samples) * classes]); v = own.get(); }
    std::vector<vector::RowStatistics<A>> statistics(rows.samples);
    surrogate(z, y, rows, form, o.ignore_index, statistics.data(), v);

    A* matrix = ema.mutable_data_ptr<A>();
    int64_t* counts = updates.mutable_data_ptr<int64_t>();
    const A* lambda = class_weights.const_data_ptr<A>();
    std::vector<A> column_scale(classes), entered(classes);
    const int64_t blocks = std::min(kMaxBlocks, (classes + 63) / 64), block = (classes + blocks - 1) / blocks;
    std::vector<A> partial(blocks * classes);
    bool updated = false;

    // M = ema^T diag(column_scale): t = M^T q, out = M t. The first call also brings the average up to date, row by
    // row as it reads it.
    const auto apply = [&](const A* q, A* t, A* out) {
      parallel_for(0, blocks, grain(block * classes), [&](int64_t from, int64_t to) {
        for (int64_t b = from; b < to; ++b) {
          A* sum = &partial[b * classes];
          std::fill(sum, sum + classes, A(0));
          for (int64_t j = b * block; j < std::min(classes, (b + 1) * block); ++j) {
            A* row = matrix + j * classes;
            if (!updated) {
              entered[j] = static_cast<A>(update_class(row, counts[j], j, index, weights, v, classes, o));
              column_scale[j] = static_cast<A>(lambda[j] / (o.debias ? filled_share(o.beta, counts[j]) : 1.));
            }
            t[j] = vector::gram_row(row, q, column_scale[j], classes, sum);
          }
        }
      });
      updated = true;
      std::copy(partial.begin(), partial.begin() + classes, out);
      for (int64_t b = 1; b < blocks; ++b) vector::add_to(out, A(1), &partial[b * classes], classes);
    };
    const TopTriple<A> top = top_singular<A>(direction.const_data_ptr<A>(), classes, o.tolerance, o.max_iterations, apply);

    *sigma.mutable_data_ptr<A>() = static_cast<A>(top.sigma);
    *spectral_error.mutable_data_ptr<A>() = static_cast<A>(top.error);
    if (top.sigma > 0) std::copy(top.u.begin(), top.u.end(), direction.mutable_data_ptr<A>());

    // d sigma / d M = u w^T (simple top singular value), so d sigma / d v_q = coefficient_q * u.
    parallel_for(0, rows.samples, grain(classes), [&](int64_t from, int64_t to) {
      RowScratch<A> scratch(classes);
      A *zr = scratch.row(0), *p = scratch.row(1), *g = scratch.row(2), *dz = scratch.row(3), *u = scratch.row(4);
      std::copy(top.u.begin(), top.u.end(), u);
      for (int64_t q = from; q < to; ++q) {
        const int64_t j = y[q];
        A coefficient = 0;
        if (j != o.ignore_index && index.mass[j] > 0)
          coefficient = static_cast<A>(entered[j] * column_scale[j] * top.w[j] / index.mass[j]) * (weights ? weights[q] : A(1));
        if (coefficient == 0) {
          std::fill_n(dz, classes, A(0));
        } else {
          read_row(z, rows, q, zr);
          vector::gradient_row(zr, classes, j, form, statistics[q], u, coefficient, p, g, dz);
        }
        copy_row(dz, 1, grad_out + q / rows.spatial * classes * rows.spatial + q % rows.spatial, rows.spatial, classes);
      }
    });
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
STABLE_TORCH_LIBRARY_IMPL(car_ext, CompositeExplicitAutograd, m) { m.impl("attach_gradient", TORCH_BOX(&car::attach_gradient)); }
