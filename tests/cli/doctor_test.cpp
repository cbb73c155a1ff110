// mobilellm doctor.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>

#include "base/json.h"
#include "tests/cli/program.h"

namespace mobilellm {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

TEST(Doctor, TellsTheMachineInEightyColumns) {
  const ProgramResult result = run_program({"doctor"});
  ASSERT_EQ(result.status, 0) << result.err;
  for (const char* word : {"version ", "processor ", "cores ", "memory ", "huge pages ", "kernel sets ", "dot_rows_f32",
                           "bandwidth ", "GB/s", "Gop/s f32", "cache ", "model "}) {
    EXPECT_THAT(result.out, HasSubstr(word));
  }
  std::istringstream in(result.out);
  for (std::string line; std::getline(in, line);) {
    const bool has_path = line.find('/') != std::string::npos;  // A path is not broken.
    EXPECT_TRUE(has_path || line.size() <= 80) << line;
  }
}

TEST(Doctor, QuickMeasuresNothing) {
  const ProgramResult result = run_program({"doctor", "--quick"});
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_THAT(result.out, Not(HasSubstr("Gop/s")));
}

TEST(Doctor, JsonNamesTheKernelsAndWhoChoseThem) {
  ProgramOptions options;
  options.environment = {{"MOBILELLM_ISA", "scalar"}, {"XDG_CACHE_HOME", "/nowhere"}};
  const ProgramResult result = run_program({"doctor", "--quick", "--json"}, options);
  ASSERT_EQ(result.status, 0) << result.err;
  const Json json = Json::parse(result.out, "output");
  EXPECT_EQ(json.find("isa")->as_string(), "scalar");
  EXPECT_TRUE(json.find("isa_forced")->as_bool());
  EXPECT_EQ(json.find("kernels")->find("rms_norm")->as_string(), "scalar");
  EXPECT_EQ(json.find("isas")->as_array().at(0).as_string(), "scalar");
  EXPECT_GE(json.find("cores")->find("usable")->as_int(), 1);
  EXPECT_GT(json.find("memory_bytes")->as_int(), 0);
  EXPECT_EQ(json.find("cache")->as_string(), "/nowhere/mobilellm");
  EXPECT_TRUE(json.find("default_model")->is_null());
  EXPECT_EQ(json.find("peaks"), nullptr);
  const bool has_better = json.find("isas")->as_array().size() > 1;
  EXPECT_EQ(json.find("advice")->dump().find("MOBILELLM_ISA") != std::string::npos, has_better);
}

TEST(Doctor, RefusesUnknownSets) {
  ProgramOptions options;
  options.environment = {{"MOBILELLM_ISA", "sse9"}};
  const ProgramResult result = run_program({"doctor", "--quick"}, options);
  EXPECT_EQ(result.status, 2);
  EXPECT_THAT(result.err, HasSubstr("MOBILELLM_ISA=sse9"));
}

}  // namespace
}  // namespace mobilellm
