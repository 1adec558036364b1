// How work is shared between threads.
#pragma once

#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <cstdint>

namespace car {

using torch::stable::parallel_for;

constexpr int64_t kWorkPerTask = 8192;  // elements below which a second thread costs more than it saves

inline int64_t grain(int64_t elements_each) {
  return std::max<int64_t>(1, kWorkPerTask / std::max<int64_t>(1, elements_each));
}

}  // namespace car
