// The CUDA kernel on made-up batches, for ThreadSanitizer and AddressSanitizer: every way the plan can cut the work.
#include <cstdio>

#include "step.h"

template <class A>
static bool all_works(int64_t samples, int64_t classes, const ShimDevice& device) {
  uint64_t state = 88172645463325252u;
  const auto random = [&] {  // in [0, 1)
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return static_cast<double>(state >> 11) / 9007199254740992.;
  };
  std::vector<A> logits(samples * classes), grad(logits.size()), weights(samples), lambda(classes), ema(classes * classes);
  std::vector<A> direction(classes, static_cast<A>(1 / std::sqrt(static_cast<double>(classes))));
  std::vector<int64_t> targets(samples), updates(classes, 2);
  for (auto& z : logits) z = static_cast<A>(6 * random());
  for (auto& weight : weights) weight = static_cast<A>(random());
  for (auto& weight : lambda) weight = static_cast<A>(random() + 0.5);
  for (auto& entry : ema) entry = static_cast<A>(random());
  for (auto& y : targets) y = random() < 0.1 ? -100 : static_cast<int64_t>(random() * static_cast<double>(classes));
  A error = 0, sigma = 0;
  car::StepArguments<A, A> a{};
  a.logits = logits.data(), a.targets = targets.data(), a.sample_weights = weights.data(), a.class_weights = lambda.data();
  a.ema = ema.data(), a.updates = updates.data(), a.direction = direction.data(), a.spectral_error = &error;
  a.sigma = &sigma, a.grad = grad.data();
  a.samples = samples, a.classes = classes, a.spatial = 1, a.stride_n = classes, a.stride_k = 1;
  a.beta = A(0.5), a.gamma = A(0.1), a.inv_temperature = 1, a.beta_exact = 0.5, a.tolerance = 1e-5;
  a.debias = true, a.ignore_index = -100, a.max_iterations = 8;
  std::vector<A> other(classes);
  a.other_direction = other.data();
  run(a, Work::step, device);
  std::printf("%d samples, %d classes, %d blocks, buffers %d, vectors on chip %d: sigma %g, error %g\n",
              static_cast<int>(samples), static_cast<int>(classes), a.plan.blocks, a.plan.buffers, a.plan.vectors,
              static_cast<double>(sigma), static_cast<double>(error));
  std::vector<A> matrix(ema.size()), mass(classes), upstream(ema.size());
  for (auto& entry : upstream) entry = static_cast<A>(random() - 0.5);
  a.ema = matrix.data(), a.class_weights = nullptr, a.updates = nullptr, a.beta = 0, a.beta_exact = 0, a.debias = false;
  a.mass = mass.data();
  run(a, Work::confusion, device);
  a.upstream = upstream.data();
  run(a, Work::confusion_backward, device);
  bool good = sigma > 0;
  for (const A z : grad) good &= std::isfinite(z);
  for (const A w : other) good &= w > 0;
  return good;
}

int main() {
  bool good = true;
  for (const int blocks : {1, 3}) {
    good &= all_works<float>(13, 5, {blocks, 1 << 17, false});
    for (const int64_t room : {1 << 17, 14000, 4400, 3000}) good &= all_works<float>(19, 141, {blocks, room, false});
    good &= all_works<double>(3, 130, {blocks, 1 << 18, false});
  }
  return good ? 0 : 1;
}
