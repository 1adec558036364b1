// The operators' schemas, once; each backend registers its own kernels.
#include <torch/csrc/stable/library.h>

STABLE_TORCH_LIBRARY(car_ext, m) {
  m.def(
      "car_step(Tensor logits, Tensor targets, Tensor? sample_weights, Tensor class_weights, Tensor(a!) ema, "
      "Tensor(b!) updates, Tensor(c!) direction, Tensor(d!) spectral_error, float beta, float gamma, "
      "float temperature, bool softmax_over_all, bool detach_gate, bool start_from_first_batch, bool hold_absent, "
      "bool debias, int ignore_index, float tolerance, int max_iterations) -> (Tensor sigma, Tensor grad)");
  m.def("attach_gradient(Tensor logits, Tensor loss, Tensor grad) -> Tensor");
}
