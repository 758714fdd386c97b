// From the second step on nothing is allocated: not by the model, not by a
// coroutine, not by a kernel.

#include "tests/layers/model_fixture.h"
#include "tests/support/allocation_counter.h"

namespace catena::testing {
namespace {

class ModelAllocationTest : public ::testing::TestWithParam<Options> {};

TEST_P(ModelAllocationTest, ATrainingStepReusesWhatTheFirstOneTook) {
  for (const DType dtype : {DType::kFloat32, DType::kBFloat16}) {
    ModelFixture f(GetParam().config, dtype, 3, 2);
    const Batch batch = packed_batch(GetParam().config.vocabulary);
    f.train(batch);
    f.train(batch);
    const std::size_t before = allocation_count();
    f.train(batch);
    EXPECT_EQ(allocation_count(), before) << name(dtype);
  }
}

INSTANTIATE_TEST_SUITE_P(Options, ModelAllocationTest,
                         ::testing::ValuesIn(all_options()), options_name);

}  // namespace
}  // namespace catena::testing
