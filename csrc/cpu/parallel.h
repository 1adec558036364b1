// How work is shared between threads.
#pragma once

#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <cstdint>

namespace car {

using torch::stable::parallel_for;

constexpr int64_t kWorkPerTask = 20000;  // elements below which a second thread costs more than it saves
constexpr int64_t kWorkPerRow = 32;      // what a row of logits costs besides, in elements

inline int64_t grain(int64_t elements_each) {
  return std::max<int64_t>(1, kWorkPerTask / std::max<int64_t>(1, elements_each));
}

}  // namespace car
