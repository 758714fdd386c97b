#include "training/question_set.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "runtime/base/error.h"
#include "runtime/base/files.h"

namespace catena {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

TEST(LastNumberTest, FindsAndNormalises) {
  const std::pair<const char*, const char*> cases[] = {
      {"", ""},
      {"none", ""},
      {"The answer is: 42", "42"},
      {"The answer is: 42.", "42"},
      {"#### 1,234", "1234"},
      {"3 then 7", "7"},
      {"$1,200.50 in all", "1200.5"},
      {"-5", "-5"},
      {"10-5", "5"},
      {"-0", "0"},
      {"007", "7"},
      {"2.500", "2.5"},
      {"1.2.3", "2.3"},
      {"x, 5", "5"},
      {".5", "0.5"},
      {"-.5", "-0.5"},
      {"It is .50.", "0.5"},
      {"$\\boxed{.25}$", "0.25"},
      {"10-.5", "0.5"},
      {"-.0", "0"},
      {".5.3", "5.3"},
      {"It is ... 5.", "5"},
      {"It is...5", "5"},
      {"So it is.5 apples", "5"},
      {"(a).5", "5"},
      {"0.50%", "0.5"}};
  for (const auto& [text, number] : cases) {
    EXPECT_EQ(last_number(text), number) << text;
  }
}

class QuestionSetTest : public testing::Test {
 protected:
  ~QuestionSetTest() override { fs::remove(path_); }
  std::vector<Question> read(const std::string& text) {
    write_file_atomically(path_, text);
    return read_questions(path_);
  }
  void refuse(const std::string& text, const std::string& why) {
    try {
      (void)read(text);
      FAIL() << "no error: " << text;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kData);
      EXPECT_THAT(error.what(), HasSubstr(why));
    }
  }
  fs::path path_ = fs::path(testing::TempDir()) /
                   fmt::format("questions-{}.jsonl", ::getpid());
};

TEST_F(QuestionSetTest, ReadsBothForms) {
  const auto questions = read(
      "{\"question\": \"How many?\", \"answer\": \"2 + 2\\n#### 4\"}\n\n"
      "{\"query\": \"Q\", \"response\": \"First 1. The answer is: 1,000\"}\n");
  ASSERT_EQ(questions.size(), 2U);
  EXPECT_EQ(questions[0].text, "How many?");
  EXPECT_EQ(questions[0].answer, "4");
  EXPECT_EQ(questions[1].text, "Q");
  EXPECT_EQ(questions[1].answer, "1000");
}

TEST_F(QuestionSetTest, NamesTheLineThatIsWrong) {
  const std::string good = R"({"question": "a", "answer": "1"})";
  refuse(good + "\n{\"question\": \"b\"}\n", ":2");
  refuse(good + "\n{\"question\": \"b\", \"answer\": \"none\"}\n",
         "holds no number");
  refuse(good + "\n[1]\n", ":2");
  refuse(good + "\n{\"question\n", ":2");
  refuse("\n", "holds no questions");
}

}  // namespace
}  // namespace catena
