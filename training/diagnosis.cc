#include "training/diagnosis.h"

namespace catena {
namespace {

constexpr const char* kAdvice =
    "Lower learning_rate.peak, or lengthen learning_rate.warmup_steps";

class FiniteChecker : public Observer {
 public:
  FiniteChecker(Backend& backend, std::int64_t step)
      : backend_(backend), step_(step), count_(backend, DType::kInt64, {1}) {}

  void computed(std::string_view name, TensorView value) override {
    backend_.kernels()(CountNonFinite{.x = value, .out = count_.view()});
    const double count = read_values(backend_, count_.view())[0];
    if (count == 0) return;
    fail(ErrorKind::kNonFinite,
         "step {}: not finite. It began in {} {}: {} of {} elements are NaN "
         "or infinite. {}",
         step_, name, value.shape().text(), count, value.elements(), kAdvice);
  }

 private:
  Backend& backend_;
  std::int64_t step_;
  Tensor count_;
};

}  // namespace

void find_non_finite(Model& model, const Tokens& tokens, const LossScale& scale,
                     std::vector<std::unique_ptr<Chunk>>& chunks,
                     std::int64_t step) {
  FiniteChecker checker(model.backend(), step);
  ParameterSet& set = model.parameters();
  for (std::size_t i = 0; i < set.size(); ++i) {
    checker.computed("weight " + set[i].name(),
                     set[i].weight().reshape({set[i].elements()}));
  }
  set.clear_gradients();
  for (const auto& chunk : chunks) chunk->observer = &checker;
  model.train(tokens, scale, chunks);
  for (const auto& chunk : chunks) chunk->observer = nullptr;
  for (std::size_t i = 0; i < set.size(); ++i) {
    checker.computed("gradient of " + set[i].name(),
                     set[i].gradient().reshape({set[i].elements()}));
  }
}

}  // namespace catena
