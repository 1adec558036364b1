// From tensors to launches: what the CUDA operators share. The kernel itself is compiled once, in launch.cu.
#pragma once

#include <cuda_runtime.h>
#include <torch/csrc/stable/accelerator.h>

#include "../car_ops.h"
#include "arguments.cuh"

namespace car {

// The CUDA object holds no code for this GPU.
struct NoKernelImage {};

enum class Work { step, confusion, confusion_backward };

// Launches `work` on the current stream of the device that `on` lies on, with workspace of its own. What `a` points to
// is set; the rest of it is settled here.
template <class T, class A>
void launch(StepArguments<T, A>& a, Work work, const Tensor& on);

// The part of `a` that says what the samples are and how a surrogate is made of them; `logits` as by `collapsible`,
// the others contiguous.
template <class T, class A>
StepArguments<T, A> arguments_of(const Tensor& logits, const Tensor& targets, const std::optional<Tensor>& weights,
                                 const Options& o) {
  const Rows rows = rows_of(logits);
  require(rows.samples <= INT32_MAX, "at most ", INT32_MAX, " samples a call on CUDA, got ", rows.samples);
  StepArguments<T, A> a{};
  a.logits = logits.const_data_ptr<T>();
  a.targets = targets.const_data_ptr<int64_t>();
  a.sample_weights = weights ? weights->const_data_ptr<A>() : nullptr;
  a.samples = rows.samples, a.classes = rows.classes, a.spatial = rows.spatial;
  a.stride_n = rows.stride_n, a.stride_k = rows.stride_k, a.stride_s = rows.stride_s;
  a.beta = static_cast<A>(o.beta), a.beta_exact = o.beta;
  a.gamma = static_cast<A>(o.gamma), a.inv_temperature = static_cast<A>(1 / o.temperature);
  a.softmax_over_all = o.softmax_over_all, a.detach_gate = o.detach_gate, a.hold_absent = o.hold_absent;
  a.start_from_first_batch = o.start_from_first_batch, a.debias = o.debias;
  a.ignore_index = o.ignore_index, a.tolerance = o.tolerance, a.max_iterations = o.max_iterations;
  return a;
}

inline std::optional<Tensor> contiguous(const std::optional<Tensor>& t) {
  return t ? std::optional<Tensor>(torch::stable::contiguous(*t)) : std::nullopt;
}

inline Tensor empty_on(const Tensor& on, torch::headeronly::IntHeaderOnlyArrayRef sizes, ScalarType dtype) {
  return torch::stable::empty(sizes, dtype, std::nullopt, on.device());
}

}  // namespace car
