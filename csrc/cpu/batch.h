// A batch on the CPU: its samples as rows of logits with a class and a weight each, and the loops over them.
#pragma once

#include <atomic>
#include <vector>

#include "../car_ops.h"
#include "parallel.h"
#include "vector.h"

namespace car {

template <class From, class To>
void copy_row(const From* from, int64_t from_stride, To* to, int64_t to_stride, int64_t classes) {
  if (from_stride == 1 && to_stride == 1) {
    if constexpr (std::is_same_v<From, To>) std::copy_n(from, classes, to);
    else for (int64_t i = 0; i < classes; ++i) to[i] = static_cast<To>(from[i]);
  } else {
    for (int64_t i = 0; i < classes; ++i) to[i * to_stride] = static_cast<To>(from[i * from_stride]);
  }
}

template <class T>
struct Batch {
  using A = typename Accumulate<T>::type;
  Tensor logits_tensor, targets_tensor;
  std::optional<Tensor> weights_tensor;
  Rows rows;
  int64_t samples, classes, ignore_index;
  const T* logits;
  const int64_t* targets;
  const A* weights;  // or null
  vector::Surrogate<A> form;

  Batch(const Tensor& logits_, const Tensor& targets_, const std::optional<Tensor>& weights_, const Options& o)
      : logits_tensor(collapsible(logits_)), targets_tensor(torch::stable::contiguous(targets_)),
        rows(rows_of(logits_tensor)), samples(rows.samples), classes(rows.classes), ignore_index(o.ignore_index),
        logits(logits_tensor.template const_data_ptr<T>()), targets(targets_tensor.template const_data_ptr<int64_t>()),
        form{static_cast<A>(o.gamma), static_cast<A>(1 / o.temperature), o.softmax_over_all, o.detach_gate} {
    if (weights_) weights_tensor = torch::stable::contiguous(*weights_);
    weights = weights_tensor ? weights_tensor->template const_data_ptr<A>() : nullptr;
    for (int64_t q = 0; q < samples; ++q) {
      if (ignored(q)) continue;
      require(targets[q] >= 0 && targets[q] < classes, "targets hold class ", targets[q], " at position ", q,
              ", but logits have ", classes, " classes (0 to ", classes - 1,
              "); relabel it or pass it as ignore_index");
      require(weight(q) >= 0 && std::isfinite(weight(q)), "sample_weights must be finite and not negative, got ",
              weight(q), " at position ", q);
    }
  }

  bool ignored(int64_t q) const { return targets[q] == ignore_index; }
  A weight(int64_t q) const { return weights ? weights[q] : A(1); }

  void read(int64_t q, A* z) const { copy_row(logits + rows.offset(q), rows.stride_k, z, 1, classes); }
  void write(const A* row, int64_t q, T* contiguous) const {
    T* out = contiguous + q / rows.spatial * classes * rows.spatial + q % rows.spatial;
    copy_row(row, 1, out, rows.spatial, classes);
  }
};

// Which samples belong to which class, in sample order (ignored samples in none), and n_j = the sum of their weights.
struct ClassIndex {
  std::vector<int64_t> begin, sample;
  std::vector<double> mass;

  template <class T>
  explicit ClassIndex(const Batch<T>& batch) : begin(batch.classes + 1, 0), mass(batch.classes, 0.) {
    for (int64_t q = 0; q < batch.samples; ++q) {
      if (batch.ignored(q)) continue;
      ++begin[batch.targets[q] + 1];
      mass[batch.targets[q]] += batch.weight(q);
    }
    for (int64_t j = 0; j < batch.classes; ++j) begin[j + 1] += begin[j];
    sample.resize(begin[batch.classes]);
    std::vector<int64_t> next(begin.begin(), begin.end() - 1);
    for (int64_t q = 0; q < batch.samples; ++q)
      if (!batch.ignored(q)) sample[next[batch.targets[q]]++] = q;
  }
};

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

// The first sample with NaN or infinite logits that some thread has met.
class FirstBad {
 public:
  explicit FirstBad(int64_t samples) : samples_(samples), first_(samples) {}
  void meet(int64_t q) {
    int64_t seen = first_.load();
    while (q < seen && !first_.compare_exchange_weak(seen, q)) {}
  }
  void raise_if_any() const {
    require(first_ == samples_, "logits of sample ", first_.load(),
            " hold NaN or infinity; the model has diverged: lower the learning rate or clip gradients");
  }

 private:
  int64_t samples_;
  std::atomic<int64_t> first_;
};

// The gradient of sum_q coefficient(q) direction(q) . v_q with respect to the logits, to grad (contiguous).
// statistics(q, scratch) says what the softmax of row q, read to scratch.row(0), has for maximum and scale.
template <class T, class Coefficient, class Direction, class Statistics>
void gradient_of_rows(const Batch<T>& batch, const Coefficient& coefficient, const Direction& direction,
                      const Statistics& statistics, T* grad) {
  using A = typename Accumulate<T>::type;
  parallel_for(0, batch.samples, grain(batch.classes), [&](int64_t from, int64_t to) {
    RowScratch<A> scratch(batch.classes);
    A *z = scratch.row(0), *p = scratch.row(1), *g = scratch.row(2), *dz = scratch.row(3), *u = scratch.row(4);
    const A* copied = nullptr;
    for (int64_t q = from; q < to; ++q) {
      const A c = batch.ignored(q) ? A(0) : coefficient(q);
      if (c == 0) {
        std::fill_n(dz, batch.classes, A(0));
      } else {
        batch.read(q, z);
        const vector::RowStatistics<A> row = statistics(q, scratch);
        if (const A* wanted = direction(q); wanted != copied) {
          std::copy_n(wanted, batch.classes, u);
          copied = wanted;
        }
        vector::gradient_row(z, batch.classes, batch.targets[q], batch.form, row, u, c, p, g, dz);
      }
      batch.write(dz, q, grad);
    }
  });
}

}  // namespace car
