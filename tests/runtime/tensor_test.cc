#include "runtime/tensor.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

namespace catena {
namespace {

class TensorViewTest : public ::testing::Test {
 protected:
  TensorViewTest() { std::iota(data_.begin(), data_.end(), 0.0f); }

  std::vector<float> data_ = std::vector<float>(120);
  TensorView view_{data_.data(), DType::kFloat32, {4, 5, 6}};
};

TEST_F(TensorViewTest, IsContiguousRowMajor) {
  EXPECT_EQ(view_.elements(), 120);
  EXPECT_EQ(view_.bytes(), 480);
  EXPECT_EQ(view_.stride(0), 30);
  EXPECT_EQ(view_.stride(1), 6);
  EXPECT_EQ(view_.stride(2), 1);
  EXPECT_TRUE(view_.contiguous());
  EXPECT_EQ(view_.shape().text(), "[4, 5, 6]");
}

TEST_F(TensorViewTest, SlicesShareMemory) {
  const TensorView middle = view_.slice(1, 2, 2);
  EXPECT_EQ(middle.shape(), (Shape{4, 2, 6}));
  EXPECT_EQ(middle.as<float>()[0], 12);
  EXPECT_EQ(middle.as<float>()[middle.stride(0)], 42);
  EXPECT_FALSE(middle.contiguous());
  EXPECT_TRUE(view_.slice(0, 1, 2).contiguous());
  EXPECT_TRUE(view_.slice(0, 4, 0).empty());
  EXPECT_THROW(static_cast<void>(view_.slice(0, 3, 2)), Error);
  EXPECT_THROW(static_cast<void>(view_.slice(3, 0, 1)), Error);
  EXPECT_THROW(static_cast<void>(view_.slice(1, -1, 1)), Error);
}

TEST_F(TensorViewTest, AtDropsTheOutermostDimension) {
  const TensorView entry = view_.at(2);
  EXPECT_EQ(entry.shape(), (Shape{5, 6}));
  EXPECT_EQ(entry.as<float>()[7], 67);
  EXPECT_EQ(entry.at(1).shape(), (Shape{6}));
  EXPECT_THROW(static_cast<void>(view_.at(4)), Error);
}

TEST_F(TensorViewTest, ReshapesWhatIsContiguous) {
  EXPECT_EQ(view_.reshape({20, 6}).shape(), (Shape{20, 6}));
  EXPECT_THROW(static_cast<void>(view_.reshape({20, 5})), Error);
  EXPECT_THROW(static_cast<void>(view_.slice(2, 0, 3).reshape({60})), Error);
}

TEST_F(TensorViewTest, SplitsTheLastDimension) {
  const TensorView rows =
      TensorView(data_.data(), DType::kFloat32, {10, 12}).slice(1, 4, 6);
  const TensorView heads = rows.split_last(3, 2);
  EXPECT_EQ(heads.shape(), (Shape{10, 3, 2}));
  EXPECT_EQ(heads.stride(0), 12);
  EXPECT_EQ(heads.stride(1), 2);
  EXPECT_EQ(heads.as<float>()[heads.stride(0) + 2 * heads.stride(1) + 1], 21);
  EXPECT_THROW(static_cast<void>(rows.split_last(4, 2)), Error);
}

TEST_F(TensorViewTest, RepeatsTheMiddle) {
  const TensorView rows(data_.data(), DType::kFloat32, {10, 12});
  const TensorView repeated = rows.repeat_middle(3);
  EXPECT_EQ(repeated.shape(), (Shape{10, 3, 12}));
  EXPECT_EQ(repeated.stride(1), 0);
  EXPECT_THROW(static_cast<void>(view_.repeat_middle(2)), Error);
}

TEST_F(TensorViewTest, RefusesOtherTypes) {
  EXPECT_THROW(static_cast<void>(view_.as<double>()), Error);
  EXPECT_FALSE(TensorView().defined());
  EXPECT_EQ(TensorView().elements(), 0);
}

TEST(ShapeTest, RefusesWhatIsNoShape) {
  EXPECT_THROW((Shape{1, 2, 3, 4, 5}), Error);
  EXPECT_THROW((Shape{2, -1}), Error);
}

TEST(BFloat16Test, RoundsToNearestEven) {
  EXPECT_EQ(static_cast<float>(BFloat16(1.0f)), 1.0f);
  // 1 + 2^-8 lies between 1 and 1 + 2^-7; ties go to even.
  EXPECT_EQ(static_cast<float>(BFloat16(1.00390625f)), 1.0f);
  EXPECT_EQ(static_cast<float>(BFloat16(1.01171875f)), 1.015625f);
  EXPECT_EQ(static_cast<float>(BFloat16(-1.0059f)), -1.0078125f);
  const float infinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(static_cast<float>(BFloat16(infinity)), infinity);
  EXPECT_TRUE(std::isnan(static_cast<float>(BFloat16(std::nanf("")))));
}

}  // namespace
}  // namespace catena
