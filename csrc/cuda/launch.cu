// The kernel for every dtype, and its launches.
#include "launch.h"

#include "schedule.cuh"

namespace car {
namespace {

cudaStream_t current_stream(const Tensor& t) {
  void* stream = nullptr;
  STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(t.get_device_index(), &stream));
  return static_cast<cudaStream_t>(stream);
}

int attribute(cudaDeviceAttr which, int device) {
  int value = 0;
  STD_CUDA_CHECK(cudaDeviceGetAttribute(&value, which, device));
  return value;
}

// Takes the error back: left behind, the next check of anyone's would find it.
bool is_one_of(cudaError_t error, std::initializer_list<cudaError_t> expected) {
  if (std::find(expected.begin(), expected.end(), error) == expected.end()) return false;
  cudaGetLastError();
  return true;
}

template <class T, class A>
Room room_on(int device) {
  const int multiprocessors = attribute(cudaDevAttrMultiProcessorCount, device);
  const int shared_memory = attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
  const cudaError_t found =
      cudaFuncSetAttribute(car_step_kernel<T, A>, cudaFuncAttributeMaxDynamicSharedMemorySize, shared_memory);
  if (is_one_of(found, {cudaErrorNoKernelImageForDevice, cudaErrorInvalidDeviceFunction,  // another architecture's
                        cudaErrorUnsupportedPtxVersion}))                                 // newer than the driver
    throw NoKernelImage{};
  STD_CUDA_CHECK(found);
  int each = 0;
  if (attribute(cudaDevAttrCooperativeLaunch, device))
    STD_CUDA_CHECK(
        cudaOccupancyMaxActiveBlocksPerMultiprocessor(&each, car_step_kernel<T, A>, kThreads<A>, shared_memory));
  // One block a multiprocessor.
  return {each > 0 ? multiprocessors : 1, shared_memory, 4 * static_cast<int64_t>(multiprocessors)};
}

}  // namespace

template <class T, class A>
void launch(StepArguments<T, A>& a, Work work, const Tensor& on) {
  const Room room = room_on<T, A>(on.get_device_index());
  std::optional<Tensor> workspace;
  const auto memory = [&](int64_t count) {
    workspace = empty_on(on, {count}, sizeof(A) == 8 ? ScalarType::Double : ScalarType::Float);
    return workspace->mutable_data_ptr<A>();
  };
  const cudaStream_t stream = current_stream(on);
  const auto go = [&](unsigned phases, int64_t blocks, bool together) {
    void* arguments[] = {&a, &phases};
    const auto kernel = reinterpret_cast<const void*>(&car_step_kernel<T, A>);
    const dim3 grid(static_cast<unsigned>(blocks)), block(kThreads<A>);
    const cudaError_t error = together
                                  ? cudaLaunchCooperativeKernel(kernel, grid, block, arguments, a.places.bytes, stream)
                                  : cudaLaunchKernel(kernel, grid, block, arguments, a.places.bytes, stream);
    // Where others hold part of the device (MPS), blocks that would fit may be refused.
    if (together && is_one_of(error, {cudaErrorCooperativeLaunchTooLarge, cudaErrorNotSupported})) return false;
    STD_CUDA_CHECK(error);
    return true;
  };
  switch (work) {
    case Work::step: return schedule_step(a, room, memory, go);
    case Work::confusion: return schedule_confusion(a, room, memory, go);
    case Work::confusion_backward: return schedule_confusion_backward(a, room, memory, go);
  }
}

template void launch(StepArguments<float, float>&, Work, const Tensor&);
template void launch(StepArguments<double, double>&, Work, const Tensor&);
template void launch(StepArguments<torch::headeronly::Half, float>&, Work, const Tensor&);
template void launch(StepArguments<torch::headeronly::BFloat16, float>&, Work, const Tensor&);

}  // namespace car
