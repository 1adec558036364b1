// Build information for `python -m car_ext`. Its own object: pybind11 beside the operators would keep them from
// loading in a process without Python.
#include <pybind11/pybind11.h>

PYBIND11_MODULE(_info, m) {
  m.def("build_info", [] {
    pybind11::dict info;
    info["compiler"] = __VERSION__;
    info["built_with_torch"] = CAR_BUILD_TORCH;
    info["needs_torch"] = CAR_NEEDS_TORCH;
    info["cuda"] = CAR_BUILD_CUDA;
    info["cuda_architectures"] = CAR_BUILD_ARCHITECTURES;
    info["version"] = CAR_VERSION;
    return info;
  });
}
