// t = M^T q and M t for M = rows^T diag(scale), both from one read of the rows: what lanczos.h asks for.
//
// Same bits at any thread count: the sums belong to fixed blocks of rows, and are added in order.
#pragma once

#include <vector>

#include "parallel.h"
#include "vector.h"

namespace car {

template <class A>
class Gram {
 public:
  explicit Gram(int64_t classes)
      : classes_(classes), blocks_(std::min<int64_t>(16, (classes + 63) / 64)),
        each_((classes + blocks_ - 1) / blocks_), partial_(blocks_ * classes) {}

  // prepare(j) comes before row j and scale[j] are read.
  template <class Prepare>
  void apply(const A* rows, const A* scale, const A* q, A* t, A* out, const Prepare& prepare) {
    parallel_for(0, blocks_, grain(each_ * classes_), [&](int64_t from, int64_t to) {
      for (int64_t b = from; b < to; ++b) {
        A* sum = &partial_[b * classes_];
        std::fill_n(sum, classes_, A(0));
        for (int64_t j = b * each_; j < std::min(classes_, (b + 1) * each_); ++j) {
          prepare(j);
          t[j] = vector::gram_row(rows + j * classes_, q, scale[j], classes_, sum);
        }
      }
    });
    std::copy_n(partial_.begin(), classes_, out);
    for (int64_t b = 1; b < blocks_; ++b) vector::add_to(out, A(1), &partial_[b * classes_], classes_);
  }

 private:
  int64_t classes_, blocks_, each_;
  std::vector<A> partial_;
};

}  // namespace car
