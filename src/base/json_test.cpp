#include "base/json.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace mobilellm {
namespace {

std::string message_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

TEST(Json, RoundTripsEveryType) {
  const std::string text = R"({"a":[1,-2,3.5,true,false,null],"b":{"c":"é\n\u0001"},"d":1e-07})";
  EXPECT_EQ(Json::parse(Json::parse(text, "t").dump(), "t"), Json::parse(text, "t"));
  EXPECT_EQ(Json::parse(R"({"b":1,"a":[1,2.0]})", "t").dump(true), R"({"b": 1, "a": [1, 2.0]})");
}

TEST(Json, ReadsIntegersBeyond64BitsAsFloatingPoint) {
  const Json json = Json::parse(
      R"({"s":"1000000000000000019884624838656","n":1000000000000000019884624838656,"m":[-123456789012345678901]})",
      "t");
  EXPECT_EQ(json.find("n")->as_double(), 1000000000000000019884624838656.0);
  EXPECT_EQ(json.find("m")->as_array()[0].as_double(), -123456789012345678901.0);
  EXPECT_EQ(json.find("s")->as_string(), "1000000000000000019884624838656");
  EXPECT_EQ(Json::parse("[9223372036854775807,-9223372036854775808]", "t").as_array()[0].as_int(), INT64_MAX);
}

TEST(Json, NamesTheOriginOfMalformedText) {
  EXPECT_NE(message_of([] { Json::parse("{\"a\":}", "x/config.json"); }).find("x/config.json"), std::string::npos);
  EXPECT_NE(message_of([] { Json::parse(R"({"a":1,"a":2})", "f"); }).find("'a' appears twice"), std::string::npos);
  EXPECT_NE(message_of([] { Json::parse(std::string(5000, '['), "f"); }).find("f: "), std::string::npos);
  EXPECT_NE(message_of([] { Json::parse("\"\xff\"", "f"); }).find("f: "), std::string::npos);
  EXPECT_NE(message_of([] { Json::parse("", "f"); }).find("f: "), std::string::npos);
}

TEST(JsonObjectReader, NamesThePathOfAWrongValue) {
  const Json json = Json::parse(R"({"rope_scaling":{"factor":"8"},"n":-1,"x":1})", "c");
  JsonObjectReader reader(json, "config.json");
  EXPECT_EQ(message_of([&] { reader.get_object("rope_scaling").get_number("factor", 0, 100); }),
            "[config] config.json: rope_scaling.factor: got \"8\", expected a number in [0, 100]");
  EXPECT_EQ(message_of([&] { reader.get_int("n", 1, 10); }),
            "[config] config.json: n: got -1, expected an integer in [1, 10]");
  EXPECT_EQ(message_of([&] { reader.get_int("m", 1, 10); }),
            "[config] config.json: m: missing, expected an integer in [1, 10]");
  EXPECT_EQ(reader.unread_keys(), std::vector<std::string>{"x"});
}

TEST(FormatDouble, PrintsAsPython) {
  EXPECT_EQ(format_double(1.0), "1.0");
  EXPECT_EQ(format_double(1e-7), "1e-07");
  EXPECT_EQ(format_double(0.1), "0.1");
  EXPECT_EQ(format_double(1e16), "1e+16");
  EXPECT_EQ(format_double(-0.0), "-0.0");
}

}  // namespace
}  // namespace mobilellm
