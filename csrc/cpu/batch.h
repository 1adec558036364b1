// A batch on the CPU: its samples as rows of logits with a class and a weight each, and the loops over them.
#pragma once

#include <atomic>
#include <memory>
#include <vector>

#include "../car_ops.h"
#include "parallel.h"
#include "vector.h"

namespace car {

// A block of samples x classes, from one pair of strides to another.
template <class From, class To>
void copy_block(const From* from, int64_t from_sample, int64_t from_class, To* to, int64_t to_sample, int64_t to_class,
                int64_t samples, int64_t classes) {
  if (from_class == 1 && to_class == 1) {
    for (int64_t s = 0; s < samples; ++s) std::copy_n(from + s * from_sample, classes, to + s * to_sample);
  } else {
    for (int64_t i = 0; i < classes; ++i)
      for (int64_t s = 0; s < samples; ++s)
        to[s * to_sample + i * to_class] = static_cast<To>(from[s * from_sample + i * from_class]);
  }
}

// Samples whose rows are read and written together. Neighbours in space share cache lines; and to read a vector right
// after its parts have been written costs a wait, which a run of short rows has once.
constexpr int64_t kRun = 32, kRunElements = 2048;

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

  int64_t longest_run() const {
    return std::min(kRun, dense() ? rows.spatial : std::max<int64_t>(1, kRunElements / vector::padded(classes)));
  }
  // Where the run that begins at sample q ends.
  int64_t run_end(int64_t q, int64_t to) const {
    return std::min({q + longest_run(), to, dense() ? (q / rows.spatial + 1) * rows.spatial : to});
  }
  // Rows of samples [q, end), of one run; z and row have padded rows.
  void read(int64_t q, int64_t end, A* z) const {
    const int64_t next = dense() ? rows.stride_s : rows.stride_n;
    copy_block(logits + rows.offset(q), next, rows.stride_k, z, vector::padded(classes), 1, end - q, classes);
  }
  void write(const A* row, int64_t q, int64_t end, T* contiguous) const {
    T* out = contiguous + q / rows.spatial * classes * rows.spatial + q % rows.spatial;
    copy_block(row, vector::padded(classes), 1, out, dense() ? 1 : classes, rows.spatial, end - q, classes);
  }

 private:
  bool dense() const { return rows.spatial > 1; }
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

// Padded rows of scratch: of each sample of a run its logits and what is made of them, and three more.
template <class A>
class RowScratch {
 public:
  RowScratch(int64_t classes, int64_t run)
      : padded_(vector::padded(classes)), run_(run), memory_((2 * run + 3) * padded_ + kCacheLine) {
    void* start = memory_.data();
    size_t room = memory_.size() * sizeof(A);
    rows_ = static_cast<A*>(std::align(kCacheLine, 1, start, room));
    std::fill_n(rows_, run * padded_, std::numeric_limits<A>::lowest());
  }
  A* z(int64_t s = 0) { return row(s); }
  A* e() { return row(run_); }
  A* g() { return row(run_ + 1); }
  A* u() { return row(run_ + 2); }
  A* out(int64_t s = 0) { return row(run_ + 3 + s); }

 private:
  static constexpr size_t kCacheLine = 64;  // bytes: a vector across two of them is read twice

  A* row(int64_t which) { return rows_ + which * padded_; }

  int64_t padded_, run_;
  std::vector<A> memory_;
  A* rows_;
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
// statistics(q, s, scratch) says what the softmax of row q, read to scratch.z(s), has for maximum and scale; it may
// write to e, g and out(s).
template <class T, class Coefficient, class Direction, class Statistics>
void gradient_of_rows(const Batch<T>& batch, const Coefficient& coefficient, const Direction& direction,
                      const Statistics& statistics, T* grad) {
  using A = typename Accumulate<T>::type;
  parallel_for(0, batch.samples, grain(batch.classes + kWorkPerRow), [&](int64_t from, int64_t to) {
    RowScratch<A> scratch(batch.classes, batch.longest_run());
    const A* copied = nullptr;
    for (int64_t begin = from, end; begin < to; begin = end) {
      end = batch.run_end(begin, to);
      batch.read(begin, end, scratch.z());
      for (int64_t q = begin; q < end; ++q) {
        const int64_t s = q - begin;
        const A c = batch.ignored(q) ? A(0) : coefficient(q);
        if (c == 0) {
          std::fill_n(scratch.out(s), batch.classes, A(0));
          continue;
        }
        const vector::RowStatistics<A> row = statistics(q, s, scratch);
        if (const A* wanted = direction(q); wanted != copied) {
          std::copy_n(wanted, batch.classes, scratch.u());
          copied = wanted;
        }
        vector::gradient_row(scratch.z(s), batch.classes, batch.targets[q], batch.form, row, scratch.u(), c,
                             scratch.e(), scratch.g(), scratch.out(s));
      }
      batch.write(scratch.out(), begin, end, grad);
    }
  });
}

}  // namespace car
