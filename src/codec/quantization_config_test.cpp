// The `quantization` section: what mlx-lm writes, defaults, and errors that name the key.
#include "codec/quantization_config.h"

#include <gtest/gtest.h>

#include "tests/support/scratch_folder.h"

namespace mobilellm {
namespace {

std::optional<QuantizationConfig> parse(const std::string& text) {
  return parse_quantization_config(Json::parse(text, "config.json"), "config.json");
}

TEST(QuantizationConfig, IsAbsentOrNull) {
  EXPECT_FALSE(parse("{}").has_value());
  EXPECT_FALSE(parse(R"({"quantization": null, "quantization_config": null})").has_value());
}

TEST(QuantizationConfig, OneSettingForAll) {
  const auto config = parse(R"({"quantization": {"group_size": 32, "bits": 8}})");
  EXPECT_EQ(*config->params_for("model.embed_tokens"), (QuantizationParams{QuantMode::kAffine, 8, 32}));
  EXPECT_EQ(*parse(R"({"quantization_config": {"bits": 4, "group_size": 16, "mode": "nvfp4"}})")->params_for("x"),
            (QuantizationParams{QuantMode::kNvfp4, 4, 16}));
}

TEST(QuantizationConfig, OwnEntries) {
  const auto config = parse(R"({"quantization": {"group_size": 64, "bits": 4, "mode": "affine",
      "a.q_proj": {"bits": 5}, "a.k_proj": false, "a.v_proj": true, "a.o_proj": {"mode": "mxfp8"}}})");
  EXPECT_EQ(config->params_for("a.q_proj")->bits, 5);
  EXPECT_EQ(config->params_for("a.q_proj")->group_size, 64);
  EXPECT_FALSE(config->params_for("a.k_proj").has_value());
  EXPECT_EQ(*config->params_for("a.v_proj"), config->defaults);
  EXPECT_EQ(*config->params_for("a.o_proj"), (QuantizationParams{QuantMode::kMxfp8, 8, 32}));
  EXPECT_EQ(*config->params_for("other"), config->defaults);
}

// An entry without a mode is affine even when the rest of the model is not, as in MLX.
TEST(QuantizationConfig, EntriesDoNotInheritTheMode) {
  const auto config = parse(R"({"quantization": {"mode": "mxfp4", "bits": 4, "group_size": 32, "head": {"bits": 8}}})");
  EXPECT_EQ(*config->params_for("head"), (QuantizationParams{QuantMode::kAffine, 8, 64}));
}

TEST(QuantizationConfig, ErrorsNameTheKey) {
  const auto expect_refused = [](const std::string& section, std::initializer_list<std::string> parts) {
    expect_error(ErrorCode::kCorruptData, parts, [&] { parse(R"({"quantization": )" + section + "}"); });
  };
  expect_refused("[]", {"config.json", "quantization", "array"});
  expect_refused(R"({"bits": 7})", {"config.json", "quantization.bits", "7", "2, 3, 4, 5, 6, 8"});
  expect_refused(R"({"bits": 0})", {"quantization.bits", "0"});
  expect_refused(R"({"bits": -4})", {"quantization.bits", "-4"});
  expect_refused(R"({"bits": 4.5})", {"quantization.bits", "4.5"});
  expect_refused(R"({"bits": "4"})", {"quantization.bits"});
  expect_refused(R"({"group_size": 16})", {"quantization.group_size", "16", "32, 64, 128"});
  expect_refused(R"({"group_size": 1e300})", {"quantization.group_size"});
  expect_refused(R"({"mode": "mxfp4", "group_size": 64})", {"quantization.group_size", "64", "mxfp4"});
  expect_refused(R"({"mode": "int4"})", {"quantization.mode", "int4"});
  expect_refused(R"({"a.b": "yes"})", {"quantization.a.b", "string"});
  expect_refused(R"({"a.b": {"bits": 1}})", {"quantization.a.b.bits", "1"});
  expect_error(ErrorCode::kUnsupported, {"quantization_config.quant_method", "awq"},
               [] { parse(R"({"quantization_config": {"quant_method": "awq", "bits": 4}})"); });
}

TEST(QuantizationConfig, CheckOfParams) {
  EXPECT_NO_THROW(check_quantization_params({QuantMode::kAffine, 6, 128}));
  expect_error(ErrorCode::kInvalidArgument, {"bits", "4", "mxfp8"},
               [] { check_quantization_params({QuantMode::kMxfp8, 4, 32}); });
  EXPECT_EQ(find_quant_mode("nvfp4"), QuantMode::kNvfp4);
  EXPECT_FALSE(find_quant_mode("").has_value());
}

}  // namespace
}  // namespace mobilellm
