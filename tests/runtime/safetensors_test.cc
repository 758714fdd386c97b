#include "runtime/safetensors.h"

#include <gmock/gmock.h>
#include <unistd.h>

#include <cstring>

#include "runtime/base/error.h"

namespace catena {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
namespace fs = std::filesystem;

class SafetensorsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::temp_directory_path() /
              ("catena_safetensors_" + std::to_string(::getpid()));
    fs::create_directories(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }
  [[nodiscard]] fs::path file(const std::string& name) const {
    return folder_ / name;
  }

 private:
  fs::path folder_;
};

template <class T>
std::span<const std::byte> bytes(const std::vector<T>& values) {
  return std::as_bytes(std::span(values));
}

std::span<const std::byte> bytes(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

/// The file format, put together by hand.
std::string file_text(const std::string& header, std::size_t data_bytes) {
  std::string text;
  for (int i = 0; i < 8; ++i) {
    text.push_back(static_cast<char>(header.size() >> (8 * i) & 0xff));
  }
  return text + header + std::string(data_bytes, '\x01');
}

void expect_refused(const std::string& text, const std::string& what) {
  try {
    (void)Safetensors::from_bytes(bytes(text), "weights");
    ADD_FAILURE() << "accepted, expected: " << what;
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kData);
    EXPECT_THAT(error.what(), HasSubstr("weights: "));
    EXPECT_THAT(error.what(), HasSubstr(what));
  }
}

TEST_F(SafetensorsTest, ReadsWhatItWrote) {
  const std::vector<float> f32 = {1, -2.5, 3e-9f, 4, 5, 6};
  const std::vector<double> f64 = {0.1};
  const std::vector<BFloat16> bf16 = {BFloat16(1.5f), BFloat16(-2.0f),
                                      BFloat16(0.25f)};
  const std::vector<std::int64_t> i64 = {-1, 1LL << 40};
  const std::vector<std::int32_t> i32 = {7};
  const std::vector<float> none;
  const NamedArray arrays[] = {
      {"small", DType::kBFloat16, {3}, bytes(bf16)},
      {"b.weight", DType::kFloat32, {2, 3}, bytes(f32)},
      {"a.empty", DType::kFloat32, {0, 4}, bytes(none)},
      {"scalar", DType::kFloat64, {}, bytes(f64)},
      {"ids", DType::kInt64, {1, 2, 1}, bytes(i64)},
      {"tiefe_\u00e4\"\\", DType::kInt32, {1}, bytes(i32)}};
  const fs::path path = file("deep/model.safetensors");
  write_safetensors(path, arrays, {{"step", "12"}});
  const Safetensors read = Safetensors::open(path);
  EXPECT_THAT(read.names(), ElementsAre("ids", "scalar", "a.empty", "b.weight",
                                        "tiefe_\u00e4\"\\", "small"));
  EXPECT_EQ(read.metadata(), (std::map<std::string, std::string>{
                                 {"format", "pt"}, {"step", "12"}}));
  for (const NamedArray& array : arrays) {
    ASSERT_TRUE(read.contains(array.name));
    const Safetensors::Entry entry = read.find(array.name);
    EXPECT_EQ(entry.dtype, array.dtype);
    EXPECT_EQ(entry.shape, array.shape);
    ASSERT_EQ(entry.data.size(), array.data.size());
    EXPECT_TRUE(
        std::equal(entry.data.begin(), entry.data.end(), array.data.begin()));
  }
  const std::string text = read_file(path);
  EXPECT_EQ(static_cast<unsigned char>(text[0]) % 8, 0) << "data aligned";
}

TEST_F(SafetensorsTest, WritesAnEmptyFileAndGivenFormat) {
  write_safetensors(file("none"), {}, {{"format", "mine"}});
  const Safetensors read = Safetensors::open(file("none"));
  EXPECT_TRUE(read.names().empty());
  EXPECT_EQ(read.metadata().at("format"), "mine");
}

TEST_F(SafetensorsTest, SurvivesBeingMoved) {
  const std::vector<float> values = {1, 2};
  const NamedArray array{"x", DType::kFloat32, {2}, bytes(values)};
  write_safetensors(file("x"), {&array, 1});
  Safetensors first = Safetensors::open(file("x"));
  const Safetensors second = std::move(first);
  float value = 0;
  std::memcpy(&value, second.find("x").data.data() + 4, sizeof value);
  EXPECT_EQ(value, 2);
}

TEST_F(SafetensorsTest, RefusesToWriteNonsense) {
  const std::vector<float> two = {1, 2};
  const auto refused = [&](const std::vector<NamedArray>& arrays) {
    EXPECT_THROW(write_safetensors(file("bad"), arrays), Error);
    EXPECT_FALSE(fs::exists(file("bad")));
  };
  const NamedArray good{"x", DType::kFloat32, {2}, bytes(two)};
  refused({good, good});
  refused({{"x", DType::kFloat32, {3}, bytes(two)}});
  refused({{"x", DType::kFloat32, {-2}, bytes(two)}});
  refused({{"__metadata__", DType::kFloat32, {2}, bytes(two)}});
  refused({{"x\xff", DType::kFloat32, {2}, bytes(two)}});
}

TEST_F(SafetensorsTest, NamesTheFileThatIsMissing) {
  try {
    (void)Safetensors::open(file("absent"));
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kData);
    EXPECT_THAT(error.what(), HasSubstr("absent"));
  }
}

TEST(SafetensorsFindTest, NamesTheNearestTensor) {
  const std::string text =
      file_text(R"({"model.norm.weight":{"dtype":"F32","shape":[1],)"
                R"("data_offsets":[0,4]}})",
                4);
  const Safetensors read = Safetensors::from_bytes(bytes(text), "weights");
  EXPECT_FALSE(read.contains("model.norm.wieght"));
  try {
    (void)read.find("model.norm.wieght");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kData);
    EXPECT_THAT(error.what(), HasSubstr("did you mean model.norm.weight?"));
  }
}

TEST(SafetensorsFindTest, RefusesForeignTypesOnlyWhenAskedFor) {
  const std::string text =
      file_text(R"({"half":{"dtype":"F16","shape":[2],"data_offsets":[0,4]},)"
                R"("new":{"dtype":"X9","shape":[2],"data_offsets":[4,5]},)"
                R"("x":{"dtype":"F32","shape":[],"data_offsets":[5,9]}}   )",
                9);
  const Safetensors read = Safetensors::from_bytes(bytes(text), "weights");
  EXPECT_EQ(read.find("x").data.size(), 4u);
  for (const char* name : {"half", "new"}) {
    try {
      (void)read.find(name);
      FAIL();
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kUnsupported);
      EXPECT_THAT(error.what(), HasSubstr(name));
    }
  }
}

std::string tensor(const std::string& dtype, const std::string& shape,
                   const std::string& offsets) {
  return R"({"dtype":")" + dtype + R"(","shape":)" + shape +
         R"(,"data_offsets":)" + offsets + "}";
}

TEST(SafetensorsHeaderTest, RefusesBrokenFrames) {
  expect_refused("", "0 bytes are too few");
  expect_refused("1234567", "7 bytes are too few");
  expect_refused(std::string(8, '\0'), "does not begin with '{'");
  expect_refused(std::string(8, '\xff'), "at most 100000000");
  expect_refused(file_text("{}", 0).substr(0, 9), "cut short");
  expect_refused(file_text("{}", 3), "3 bytes of data, but the tensors end at");
  expect_refused(file_text(" {}", 0), "does not begin with '{'");
}

TEST(SafetensorsHeaderTest, RefusesBrokenJson) {
  expect_refused(file_text("{\"a\":", 0), "not JSON at byte 6");
  expect_refused(file_text("{} x", 0), "not JSON");
  expect_refused(file_text("{\"\xff\":1}", 0), "not JSON");
  expect_refused(file_text("{\"a\":1}", 0), "tensor a: is not an object");
  expect_refused(file_text("{\"__metadata__\":[]}", 0), "not an object");
  expect_refused(file_text("{\"__metadata__\":{\"k\":1}}", 0), "k is not text");
  expect_refused(file_text("{\"a\":" + std::string(10000, '['), 0),
                 "nests too deep");
  const std::string x = tensor("F32", "[1]", "[0,4]");
  expect_refused(file_text("{\"a\":" + x + ",\"a\":" + x + "}", 4),
                 "key \"a\" twice");
  expect_refused(file_text(R"({"a":{"dtype":"F32","dtype":"F32"}})", 0),
                 "key \"dtype\" twice");
}

TEST(SafetensorsHeaderTest, RefusesBrokenTensors) {
  const auto refused = [](const std::string& dtype, const std::string& shape,
                          const std::string& offsets, const std::string& what) {
    expect_refused(
        file_text("{\"a\":" + tensor(dtype, shape, offsets) + "}", 4), what);
  };
  refused("F32", "[2]", "[0,4]", "4 bytes of data for 2 elements of F32");
  refused("F64", "[1]", "[0,4]", "4 bytes of data for 1 elements of F64");
  refused("U8", "[5]", "[0,4]", "4 bytes of data for 5 elements of U8");
  refused("F32", "[1]", "[0,8]", "data_offsets [0,8] in 4 bytes");
  refused("F32", "[1]", "[4,0]", "data_offsets");
  refused("F32", "[1]", "[0]", "data_offsets");
  refused("F32", "[1]", "[-4,0]", "data_offsets has -4");
  refused("F32", "[1.0]", "[0,4]", "shape has 1.0");
  refused("F32", "[[1]]", "[0,4]", "shape has [1]");
  refused("F32", "[-1]", "[0,4]", "shape has -1");
  refused("F32", "[1e999]", "[0,4]", "not usable JSON");
  refused("F32", "[\"1\"]", "[0,4]", "shape has \"1\"");
  refused("F32", "1", "[0,4]", "no shape array");
  refused("F32", "[18446744073709551615]", "[0,4]", "shape has");
  // 2^62 * 4 elements and 2^62 elements of 4 bytes both wrap around to 0.
  refused("F32", "[4611686018427387904,4]", "[0,0]", "too large");
  refused("F32", "[4611686018427387904]", "[0,0]", "0 bytes of data");
  expect_refused(file_text(R"({"a":{"shape":[1],"data_offsets":[0,4]}})", 4),
                 "tensor a: no dtype");
  expect_refused(file_text(R"({"a":{"dtype":"F32","shape":[1]}})", 4),
                 "tensor a: no data_offsets array");
  expect_refused(
      file_text(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],)"
                R"("extra":0}})",
                4),
      "unknown key extra");
}

TEST(SafetensorsHeaderTest, RefusesHolesAndOverlap) {
  const auto two = [](const std::string& a, const std::string& b) {
    return "{\"a\":" + tensor("F32", "[1]", a) +
           ",\"b\":" + tensor("F32", "[1]", b) + "}";
  };
  (void)Safetensors::from_bytes(bytes(file_text(two("[4,8]", "[0,4]"), 8)),
                                "in any order");
  expect_refused(file_text(two("[0,4]", "[5,9]"), 9),
                 "tensor b: data begins at byte 5, the one before ends at 4");
  expect_refused(file_text(two("[0,4]", "[2,6]"), 6), "begins at byte 2");
  expect_refused(file_text(two("[0,4]", "[0,4]"), 4), "begins at byte 0");
  expect_refused(file_text(two("[1,5]", "[5,9]"), 9), "begins at byte 1");
  expect_refused(file_text(two("[0,4]", "[4,8]"), 9), "tensors end at 8");
}

TEST(SafetensorsHeaderTest, KeepsMessagesShort) {
  const std::string name(100000, 'n');
  try {
    (void)Safetensors::from_bytes(bytes(file_text("{\"" + name + "\":1}", 0)),
                                  "weights");
    FAIL();
  } catch (const Error& error) {
    EXPECT_LT(std::strlen(error.what()), 500u);
  }
}

}  // namespace
}  // namespace catena
