// car_ext::confusion on the CPU: the batch's matrix, row = true class, and its gradient against any upstream one.
//
// Same bits at any thread count: every sum belongs to one piece of one class, and the pieces are added in order.
#include "batch.h"

namespace car {
namespace {

constexpr int64_t kPiece = 64;  // samples of one class that one thread adds up

struct Piece {
  int64_t row, begin, end;  // of the class index
};

template <class T>
void forward(const Batch<T>& batch, Tensor& confusion, Tensor& mass) {
  using A = typename Accumulate<T>::type;
  const ClassIndex index(batch);
  const int64_t classes = batch.classes;
  A* matrix = confusion.mutable_data_ptr<A>();
  std::fill_n(matrix, classes * classes, A(0));
  std::copy(index.mass.begin(), index.mass.end(), mass.mutable_data_ptr<A>());

  // A class's first piece adds to the matrix itself, any other to a row of `further`.
  std::vector<Piece> pieces;
  int64_t count = 0;
  for (int64_t j = 0; j < classes; ++j)
    for (int64_t from = index.begin[j]; from < index.begin[j + 1]; from += kPiece) {
      const bool first = from == index.begin[j];
      pieces.push_back({first ? j : classes + count, from, std::min(from + kPiece, index.begin[j + 1])});
      count += !first;
    }
  std::vector<A> further(count * classes);
  const auto row_of_piece = [&](const Piece& piece) {
    return piece.row < classes ? matrix + piece.row * classes : &further[(piece.row - classes) * classes];
  };

  FirstBad bad(batch.samples);
  const int64_t count_of_pieces = static_cast<int64_t>(pieces.size());
  parallel_for(0, count_of_pieces, grain(kPiece * (classes + kWorkPerRow)), [&](int64_t from, int64_t to) {
    RowScratch<A> scratch(classes, 1);
    vector::RowStatistics<A> unused;
    for (int64_t n = from; n < to; ++n)
      for (int64_t at = pieces[n].begin; at < pieces[n].end; ++at) {
        const int64_t q = index.sample[at], j = batch.targets[q];
        batch.read(q, q + 1, scratch.z());
        A* v = scratch.out();
        if (!vector::surrogate_row(scratch.z(), classes, j, batch.form, unused, scratch.e(), scratch.g(), v))
          bad.meet(q);
        else if (index.mass[j] > 0)
          vector::add_to(row_of_piece(pieces[n]), static_cast<A>(batch.weight(q) / index.mass[j]), v, classes);
      }
  });
  bad.raise_if_any();
  for (const Piece& piece : pieces)
    if (piece.row >= classes)
      vector::add_to(matrix + batch.targets[index.sample[piece.begin]] * classes, A(1), row_of_piece(piece), classes);
}

template <class T>
void backward(const Batch<T>& batch, const Tensor& upstream, const Tensor& mass, Tensor& grad) {
  using A = typename Accumulate<T>::type;
  const int64_t classes = batch.classes;
  const A *u = upstream.const_data_ptr<A>(), *n = mass.const_data_ptr<A>();
  FirstBad bad(batch.samples);
  const auto coefficient = [&](int64_t q) {
    const A of_class = n[batch.targets[q]];
    return of_class > 0 ? batch.weight(q) / of_class : A(0);
  };
  const auto direction = [&](int64_t q) { return u + batch.targets[q] * classes; };
  const auto statistics = [&](int64_t q, int64_t s, RowScratch<A>& scratch) {
    vector::RowStatistics<A> row{};
    if (!vector::surrogate_row(scratch.z(s), classes, batch.targets[q], batch.form, row, scratch.e(), scratch.g(),
                               scratch.out(s)))
      bad.meet(q);
    return row;
  };
  gradient_of_rows(batch, coefficient, direction, statistics, grad.mutable_data_ptr<T>());
  bad.raise_if_any();
}

std::tuple<Tensor, Tensor> confusion(const Tensor& logits, const Tensor& targets,
                                     const std::optional<Tensor>& sample_weights, double gamma, double temperature,
                                     bool softmax_over_all, bool detach_gate, int64_t ignore_index) {
  const Options o = options_of_batch(gamma, temperature, softmax_over_all, detach_gate, ignore_index);
  check_samples(logits, targets, sample_weights, o);
  const int64_t classes = logits.size(1);
  Tensor matrix = torch::stable::empty({classes, classes}, state_dtype(logits));
  Tensor mass = torch::stable::empty({classes}, state_dtype(logits));
  CAR_DISPATCH(logits.scalar_type(), "confusion", [&] {
    forward(Batch<scalar_t>(logits, targets, sample_weights, o), matrix, mass);
  });
  return {matrix, mass};
}

Tensor confusion_backward(const Tensor& upstream_, const Tensor& logits, const Tensor& targets,
                          const std::optional<Tensor>& sample_weights, const Tensor& mass, double gamma,
                          double temperature, bool softmax_over_all, bool detach_gate, int64_t ignore_index) {
  const Options o = options_of_batch(gamma, temperature, softmax_over_all, detach_gate, ignore_index);
  const Tensor upstream = torch::stable::contiguous(upstream_);
  check_samples(logits, targets, sample_weights, o);
  check_upstream(upstream, mass, logits);
  Tensor grad = torch::stable::empty(logits.sizes(), logits.scalar_type());
  CAR_DISPATCH(logits.scalar_type(), "confusion_backward", [&] {
    backward(Batch<scalar_t>(logits, targets, sample_weights, o), upstream, mass, grad);
  });
  return grad;
}

}  // namespace
}  // namespace car

STABLE_TORCH_LIBRARY_IMPL(car_ext, CPU, m) {
  m.impl("confusion", TORCH_BOX(&car::confusion));
  m.impl("confusion_backward", TORCH_BOX(&car::confusion_backward));
}
