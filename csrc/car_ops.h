// What the operators of every backend share: the inputs' checks and the view of the logits as rows of classes.
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/macros.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/Dispatch_v2.h>
#include <torch/headeronly/core/ScalarType.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <tuple>

#ifndef STABLE_TORCH_ERROR_CODE_CHECK  // the name came after torch 2.11
#define STABLE_TORCH_ERROR_CODE_CHECK TORCH_ERROR_CODE_CHECK
#endif

namespace car {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

// Half precision accumulates in float and keeps float state.
template <class T> struct Accumulate { using type = float; };
template <> struct Accumulate<double> { using type = double; };

#define CAR_DISPATCH(TYPE, NAME, ...) \
  THO_DISPATCH_V2(TYPE, NAME, AT_WRAP((__VA_ARGS__)), AT_EXPAND(AT_FLOATING_TYPES), ScalarType::Half, \
                  ScalarType::BFloat16)

// A failed check is the caller's mistake: the message alone, without our file and line.
template <class... Part>
void require(bool holds, const Part&... part) {
  if (holds) return;
  std::ostringstream message;
  message << "car_ext: ";
  (message << ... << part);
  throw std::runtime_error(message.str());
}

struct Options {
  double beta = 0, gamma, temperature;
  bool softmax_over_all, detach_gate, start_from_first_batch = false, hold_absent = false, debias = false;
  int64_t ignore_index;
  double tolerance = 1;
  int64_t max_iterations = 1;
};

// The part of them that confusion has; the rest, as it is by default, makes its matrix the batch's own.
inline Options options_of_batch(double gamma, double temperature, bool softmax_over_all, bool detach_gate,
                                int64_t ignore_index) {
  return {.gamma = gamma,
          .temperature = temperature,
          .softmax_over_all = softmax_over_all,
          .detach_gate = detach_gate,
          .ignore_index = ignore_index};
}

// Logits (N, K, *spatial) seen as `samples` = N * spatial rows of `classes` = K, each read in place.
// Element (n, k, s) lies at n * stride_n + k * stride_k + s * stride_s.
struct Rows {
  int64_t samples, classes, spatial, stride_n, stride_k, stride_s;
  int64_t offset(int64_t sample) const { return sample / spatial * stride_n + sample % spatial * stride_s; }
};

// Strided logits are read as they are; only where the spatial axes do not collapse into one are they copied.
inline Tensor collapsible(const Tensor& logits) {
  for (int64_t d = 2; d + 1 < logits.dim(); ++d)
    if (logits.stride(d) != logits.stride(d + 1) * logits.size(d + 1)) return torch::stable::contiguous(logits);
  return logits;
}

inline Rows rows_of(const Tensor& logits) {
  const int64_t n = logits.size(0), k = logits.size(1);
  int64_t spatial = 1;
  for (int64_t d = 2; d < logits.dim(); ++d) spatial *= logits.size(d);
  const int64_t stride_s = logits.dim() > 2 ? logits.stride(logits.dim() - 1) : 0;
  return {n * spatial, k, spatial, logits.stride(0), logits.stride(1), stride_s};
}

inline void check_state(const Tensor& t, const char* name, ScalarType dtype, int64_t numel, const Tensor& logits) {
  require(t.scalar_type() == dtype, "", name, " has the wrong dtype for these logits: half, bfloat16 and "
                  "float32 logits need float32 state, float64 logits float64 state (car.float() or car.double())");
  require(t.numel() == numel && t.is_contiguous(), "", name, " must be contiguous with ", numel,
                  " elements, got ", t.numel(),
          "; were the logits' classes (dimension 1) built for another class_counts?");
  require(t.device() == logits.device(), "", name,
          " and logits are on different devices; move the module with car.to(device)");
}

inline ScalarType state_dtype(const Tensor& logits) {
  return logits.scalar_type() == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
}

inline void check_samples(const Tensor& logits, const Tensor& targets, const std::optional<Tensor>& weights,
                          const Options& o) {
  require(logits.dim() >= 2, "logits must be (N, K) or (N, K, *spatial), got ", logits.dim(), " dimension(s)");
  require(logits.size(1) >= 2, "a confusion matrix needs at least two classes, logits have ", logits.size(1));
  bool same = targets.dim() == logits.dim() - 1 && targets.size(0) == logits.size(0);
  for (int64_t d = 2; same && d < logits.dim(); ++d) same = targets.size(d - 1) == logits.size(d);
  require(same, "targets must have the logits' shape without its class dimension (dimension 1)");
  require(targets.scalar_type() == ScalarType::Long, "targets must be int64 class indices; use targets.long()");
  require(targets.device() == logits.device(), "targets and logits are on different devices");
  if (weights) {
    require(weights->dim() == targets.dim() && weights->numel() == targets.numel(),
            "sample_weights must have the targets' shape");
    check_state(torch::stable::contiguous(*weights), "sample_weights", state_dtype(logits), targets.numel(), logits);
  }
  require(o.temperature > 0 && std::isfinite(o.temperature), "temperature must be positive, got ", o.temperature);
  require(std::isfinite(o.gamma), "gamma must be finite, got ", o.gamma);
}

inline void check_iteration(double tolerance, int64_t max_iterations) {
  require(tolerance > 0 && max_iterations > 0, "tolerance and max_iterations must be positive");
}

inline void check_step(const Tensor& logits, const Tensor& targets, const std::optional<Tensor>& weights,
                       const Tensor& class_weights, const Tensor& ema, const Tensor& updates, const Tensor& direction,
                       const Tensor& spectral_error, const Options& o) {
  check_samples(logits, targets, weights, o);
  const int64_t k = logits.size(1);
  const ScalarType dtype = state_dtype(logits);
  check_state(class_weights, "class_weights", dtype, k, logits);
  check_state(ema, "ema", dtype, k * k, logits);
  check_state(updates, "updates", ScalarType::Long, k, logits);
  check_state(direction, "direction", dtype, k, logits);
  check_state(spectral_error, "spectral_error", dtype, 1, logits);
  require(o.beta >= 0 && o.beta < 1, "beta must be in [0, 1), got ", o.beta);
  check_iteration(o.tolerance, o.max_iterations);
  require(!(o.debias && o.start_from_first_batch),
          "a moving average that starts from the first batch has no bias to correct");
}

inline void check_upstream(const Tensor& upstream, const Tensor& mass, const Tensor& logits) {
  const int64_t k = logits.size(1);
  require(upstream.dim() == 2 && upstream.size(0) == k && upstream.size(1) == k, "upstream must be (", k, ", ", k,
          "): row = true class");
  check_state(upstream, "upstream", state_dtype(logits), k * k, logits);
  check_state(mass, "mass", state_dtype(logits), k, logits);
}

inline void check_matrix(const Tensor& matrix, const std::optional<Tensor>& start, double tolerance,
                         int64_t max_iterations) {
  require(matrix.dim() == 2, "spectral_norm takes one matrix (K, K), got ", matrix.dim(),
          " dimension(s); batches are not supported, loop over them");
  const int64_t k = matrix.size(0);
  require(k > 0 && matrix.size(1) == k, "spectral_norm takes a square matrix, got ", k, " x ", matrix.size(1));
  const ScalarType dtype = matrix.scalar_type();
  require(dtype == ScalarType::Float || dtype == ScalarType::Double,
          "spectral_norm takes float32 or float64; use matrix.float()");
  if (start)
    require(start->dim() == 1 && start->numel() == k && start->scalar_type() == dtype &&
                start->device() == matrix.device(),
            "start must be (", k, ",) like the matrix's rows, with its dtype and device");
  check_iteration(tolerance, max_iterations);
}

// NAME_reference with the same arguments, in plain PyTorch.
template <class... Out, class... In>
std::tuple<Out...> call_reference(const char* name, const In&... in) {
  std::array<StableIValue, std::max(sizeof...(In), sizeof...(Out))> stack{torch::stable::detail::from(in)...};
  STABLE_TORCH_ERROR_CODE_CHECK(torch_call_dispatcher(name, "", stack.data(), TORCH_ABI_VERSION));
  return torch::stable::detail::unbox_to_tuple<Out...>(stack.data());
}

}  // namespace car
