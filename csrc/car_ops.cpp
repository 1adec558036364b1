// The operators' schemas, once; each backend registers its own kernels.
#include <torch/csrc/stable/library.h>

#include <string>

// An operator and its twin NAME_reference, which car_ext/ops.py implements in plain PyTorch. A CUDA kernel without code
// for the GPU at hand hands its call over to the twin (call_reference in car_ops.h).
static void define(torch::stable::detail::StableLibrary& m, const std::string& name, const std::string& signature) {
  m.def((name + signature).c_str());
  m.def((name + "_reference" + signature).c_str());
}

STABLE_TORCH_LIBRARY(car_ext, m) {
  define(m, "car_step",
         "(Tensor logits, Tensor targets, Tensor? sample_weights, Tensor class_weights, Tensor(a!) ema, "
         "Tensor(b!) updates, Tensor(c!) direction, Tensor(d!) spectral_error, float beta, float gamma, "
         "float temperature, bool softmax_over_all, bool detach_gate, bool start_from_first_batch, bool hold_absent, "
         "bool debias, int ignore_index, float tolerance, int max_iterations) -> (Tensor sigma, Tensor grad)");
  m.def("attach_gradient(Tensor logits, Tensor loss, Tensor grad) -> Tensor");
  define(m, "confusion",
         "(Tensor logits, Tensor targets, Tensor? sample_weights, float gamma, float temperature, "
         "bool softmax_over_all, bool detach_gate, int ignore_index) -> (Tensor confusion, Tensor mass)");
  define(m, "confusion_backward",
         "(Tensor upstream, Tensor logits, Tensor targets, Tensor? sample_weights, Tensor mass, float gamma, "
         "float temperature, bool softmax_over_all, bool detach_gate, int ignore_index) -> Tensor grad");
  define(m, "spectral_norm",
         "(Tensor matrix, Tensor? start, float tolerance, int max_iterations) -> "
         "(Tensor sigma, Tensor left, Tensor right, Tensor error)");
}
