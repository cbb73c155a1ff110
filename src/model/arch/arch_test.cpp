// Tests of the families: facts of every fixture's config, and errors that name the key.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "base/files.h"
#include "mobilellm/error.h"
#include "model/arch/registry.h"
#include "model/arch/rope.h"

namespace mobilellm {
namespace {

using Kind = AttentionWindow::Kind;
using testing::ElementsAre;
using testing::HasSubstr;

Json fixture_config(const std::string& name) {
  return Json::parse_file(MOBILELLM_SOURCE_DIR "/tests/golden/" + name + "/config.json");
}

ModelDescription describe(const Json& config, const TensorShapes& tensors = {}, bool is_mlx = false) {
  return describe_config(config, "config.json", tensors, is_mlx);
}

ModelSpec fixture_spec(const std::string& name) { return describe(fixture_config(name)).spec; }

/// Expects an error whose message holds `text`.
template <typename Function>
void expect_error(Function function, ErrorCode code, const std::string& text) {
  try {
    function();
    ADD_FAILURE() << "no error, expected one with: " << text;
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr(text));
    EXPECT_EQ(error.code(), code) << error.what();
  }
}

TEST(Llama4Text, TakesTheDenseWidthAndRotatesInPairs) {
  const ModelSpec spec = fixture_spec("models/r1_full");
  EXPECT_EQ(spec.architecture, "llama4_text");
  EXPECT_EQ(spec.n_layers(), 4);
  EXPECT_TRUE(spec.is_output_tied);
  EXPECT_EQ(spec.max_context, 32768);
  EXPECT_THAT(spec.eos_ids, ElementsAre(2, 3, 4));
  for (const LayerSpec& layer : spec.layers) {
    EXPECT_EQ(layer.d_ff, 112);  // intermediate_size_mlp, not intermediate_size.
    EXPECT_EQ(layer.rope_style, RopeStyle::kInterleaved);
    EXPECT_EQ(layer.qk_norm, QkNorm::kWeightless);
    EXPECT_EQ(layer.window.kind, Kind::kFull);  // layer_types wins over attention_chunk_size 32.
    EXPECT_FLOAT_EQ(layer.score_scale, 0.25f);
    EXPECT_FALSE(layer.temperature.is_on);
  }
}

TEST(Llama4Text, ChunksRopeLayersWithoutLayerTypes) {
  const ModelSpec spec = fixture_spec("models/r1_chunk_nope");
  EXPECT_EQ(spec.layers[0].window.kind, Kind::kChunked);
  EXPECT_EQ(spec.layers[0].window.size, 24);
  EXPECT_EQ(spec.layers[3].window.kind, Kind::kFull);
  EXPECT_EQ(spec.layers[3].rope_style, RopeStyle::kNone);
  EXPECT_EQ(spec.layers[3].qk_norm, QkNorm::kNone);
}

TEST(Llama4Text, TunesTemperatureOnNopeLayersOnly) {
  const ModelSpec spec = fixture_spec("models/r1_temp");
  EXPECT_FALSE(spec.layers[0].temperature.is_on);
  EXPECT_TRUE(spec.layers[1].temperature.is_on);
  EXPECT_EQ(spec.layers[1].temperature.floor_scale, 16);
  EXPECT_EQ(spec.layers[1].temperature.attn_scale, 0.5);
}

TEST(Llama4Text, RecognisesTheDualBranchByTensorName) {
  const Json config = fixture_config("dual_branch/hf_keys");
  for (const char* name : {"model.layers.0.mlp.g_up.weight", "model.layers.2.feed_forward.g_up.weight",
                           "layers.1.mlp.p_up.weight", "layers.1.feed_forward.p_up.weight"}) {
    const ModelSpec spec = describe(config, {{name, {96, 64}}}).spec;
    EXPECT_EQ(spec.layers[0].mlp, MlpKind::kDualBranch) << name;
    EXPECT_EQ(spec.layers[0].d_ff, 96);
    EXPECT_EQ(spec.layers[0].d_ff_plain, 160);
    EXPECT_THAT(spec.mlp_reason, HasSubstr(name));
  }
  const ModelSpec plain = describe(config, {{"model.layers.0.feed_forward.up_proj.weight", {160, 64}}}).spec;
  EXPECT_EQ(plain.layers[0].mlp, MlpKind::kGated);
  EXPECT_EQ(plain.layers[0].d_ff, 160);
}

TEST(Llama4Text, UsesTheClassDefaultsForAbsentKeys) {
  Json config = fixture_config("models/r1");
  std::erase_if(config.as_object(), [](const auto& member) {
    return member.first == "no_rope_layers" || member.first == "attention_chunk_size" ||
           member.first == "attn_temperature_tuning";
  });
  const ModelSpec spec = describe(config).spec;
  EXPECT_EQ(spec.layers[2].rope_style, RopeStyle::kInterleaved);
  EXPECT_EQ(spec.layers[3].rope_style, RopeStyle::kNone);  // Every fourth layer.
  EXPECT_TRUE(spec.layers[3].temperature.is_on);
  EXPECT_EQ(spec.layers[0].window.size, 8192);
  config.set("attention_chunk_size", nullptr);
  EXPECT_EQ(describe(config).spec.layers[0].window.kind, Kind::kFull);
}

TEST(Llama, ReadsBiasesTyingAndHeadSize) {
  const ModelSpec bias = fixture_spec("models/llama_bias");
  EXPECT_TRUE(bias.layers[0].has_qkv_bias);
  EXPECT_TRUE(bias.layers[0].has_o_bias);
  EXPECT_TRUE(bias.layers[0].has_mlp_bias);
  EXPECT_FALSE(bias.is_output_tied);
  const ModelSpec tied = fixture_spec("models/llama_tied");
  EXPECT_EQ(tied.layers[0].head_dim, 32);
  EXPECT_EQ(tied.rope_tables[0].scaling, "llama3");
  EXPECT_TRUE(tied.is_output_tied);
}

TEST(Qwen, HasItsBiasesAndNorms) {
  const ModelSpec qwen2 = fixture_spec("models/qwen2");
  EXPECT_TRUE(qwen2.layers[0].has_qkv_bias);
  EXPECT_FALSE(qwen2.layers[0].has_o_bias);
  EXPECT_EQ(qwen2.layers[0].head_dim, 16);  // hidden_size / num_attention_heads
  EXPECT_EQ(qwen2.layers[0].window.kind, Kind::kFull);
  const ModelSpec qwen3 = fixture_spec("models/qwen3_untied");
  EXPECT_EQ(qwen3.layers[0].qk_norm, QkNorm::kPerHead);
  EXPECT_EQ(qwen3.rope_tables[0].theta, 1e6);  // From rope_parameters.
}

TEST(Qwen, SlidesFromMaxWindowLayersOn) {
  Json config = fixture_config("models/qwen2");
  config.set("use_sliding_window", true).set("sliding_window", 16).set("max_window_layers", 2);
  ModelSpec spec = describe(config).spec;
  EXPECT_EQ(spec.layers[1].window.kind, Kind::kFull);
  EXPECT_EQ(spec.layers[2].window.kind, Kind::kSliding);
  EXPECT_EQ(spec.layers[2].window.size, 16);
  config.set("layer_types",
             Json(Json::Array{"sliding_attention", "full_attention", "full_attention", "full_attention"}));
  spec = describe(config).spec;
  EXPECT_EQ(spec.layers[0].window.kind, Kind::kSliding);
  EXPECT_EQ(spec.layers[3].window.kind, Kind::kFull);
}

TEST(Gemma3, SlidesByPatternWithItsOwnRope) {
  const ModelDescription description = describe(fixture_config("models/gemma3"));
  const ModelSpec& spec = description.spec;
  EXPECT_EQ(description.norm_transform, NormTransform::kAddOne);
  EXPECT_EQ(spec.embedding_scale, 8.0f);
  EXPECT_EQ(spec.layers[0].norm_placement, NormPlacement::kSandwich);
  EXPECT_EQ(spec.layers[0].activation, Activation::kGeluTanh);
  EXPECT_FLOAT_EQ(spec.layers[0].score_scale, static_cast<float>(1 / std::sqrt(40.0)));
  for (int i = 0; i < 6; ++i) {
    const LayerSpec& layer = spec.layers[static_cast<size_t>(i)];
    const bool is_global = i == 2 || i == 5;
    EXPECT_EQ(layer.window.kind, is_global ? Kind::kFull : Kind::kSliding);
    EXPECT_EQ(spec.rope_tables[static_cast<size_t>(layer.rope_table)].theta, is_global ? 1e6 : 1e4);
  }
}

TEST(Gemma3, ReadsNestedRopeParameters) {
  const ModelSpec spec = fixture_spec("models/gemma3_new");
  EXPECT_EQ(spec.layers[2].window.kind, Kind::kFull);
  EXPECT_EQ(spec.rope_tables[0].scaling, "linear");
  EXPECT_FLOAT_EQ(spec.rope_tables[0].inv_freq[0], 0.125f);
  EXPECT_EQ(spec.rope_tables[1].scaling, "none");
}

TEST(Gemma3, RoundsTheEmbeddingScaleToTheTypeOfTheReference) {
  Json config = fixture_config("mlx/gemma3_q4_g64");
  EXPECT_EQ(describe(config, {}, true).spec.embedding_scale, 11.3125f);  // mlx-lm: always bf16.
  EXPECT_EQ(describe(config).spec.embedding_scale, std::sqrt(128.0f));
  config.set("torch_dtype", "bfloat16");
  EXPECT_EQ(describe(config).spec.embedding_scale, 11.3125f);
}

TEST(Olmo2, NormsAfterAndOverTheFullWidth) {
  const ModelSpec spec = fixture_spec("models/olmo2");
  EXPECT_EQ(spec.layers[0].norm_placement, NormPlacement::kPost);
  EXPECT_EQ(spec.layers[0].qk_norm, QkNorm::kFullWidth);
  EXPECT_EQ(spec.layers[0].head_dim, 16);
}

struct BadKey {
  const char* fixture;
  const char* key;
  Json value;
  ErrorCode code = ErrorCode::kCorruptData;
};

TEST(ConfigErrors, NameTheKey) {
  const Json list = Json(Json::Array{1, 0});
  const Json object = Json::object();
  const ErrorCode unsupported = ErrorCode::kUnsupported;
  const BadKey cases[] = {
      {"models/r1", "hidden_size", 0},
      {"models/r1", "hidden_size", -96},
      {"models/r1", "hidden_size", int64_t{1} << 40},
      {"models/r1", "hidden_size", 96.5},
      {"models/r1", "hidden_size", "96"},
      {"models/r1", "hidden_size", nullptr},
      {"models/r1", "vocab_size", int64_t{1} << 32},
      {"models/r1", "num_hidden_layers", 0},
      {"models/r1", "num_hidden_layers", 100000},
      {"models/r1", "num_attention_heads", 0},
      {"models/r1", "num_key_value_heads", 3},
      {"models/r1", "num_key_value_heads", 0},
      {"models/r1", "head_dim", 0},
      {"models/r1", "head_dim", 23},
      {"models/r1", "head_dim", 1 << 20},
      {"models/r1", "intermediate_size", -1},
      {"models/r1", "intermediate_size_mlp", 0},
      {"models/r1", "rms_norm_eps", 0},
      {"models/r1", "rms_norm_eps", -1.0},
      {"models/r1", "rope_theta", 0},
      {"models/r1", "rope_theta", "8e6"},
      {"models/r1", "max_position_embeddings", 0},
      {"models/r1", "no_rope_layers", list},
      {"models/r1", "no_rope_layers", 1},
      {"models/r1", "no_rope_layers", Json(Json::Array{1, 1, 2, 1})},
      {"models/r1", "attention_chunk_size", 0},
      {"models/r1", "attention_chunk_size", -5},
      {"models/r1", "floor_scale", 0},
      {"models/r1", "use_qk_norm", 1},
      {"models/r1", "attention_bias", "no"},
      {"models/r1", "tie_word_embeddings", 0},
      {"models/r1", "eos_token_id", "2"},
      {"models/r1", "eos_token_id", Json(Json::Array{2, "3"})},
      {"models/r1", "architectures", "Llama4ForCausalLM"},
      {"models/r1", "layer_types", Json(Json::Array{"full_attention"})},
      {"models/r1", "layer_types",
       Json(Json::Array{"full_attention", "full_attention", "linear_attention", "full_attention"})},
      {"models/r1", "hidden_act", "relu", unsupported},
      {"models/r1", "model_type", "mamba", unsupported},
      {"models/r1", "architectures", Json(Json::Array{"Llama4ForSequenceClassification"}), unsupported},
      {"models/r1", "logit_scale", 0.5, unsupported},
      {"models/r1", "residual_multiplier", 2, unsupported},
      {"models/r1", "partial_rotary_factor", 0.5},
      {"models/llama_tied", "rope_scaling", 3},
      {"models/llama_tied", "sliding_window", 128, unsupported},
      {"models/smollm2_like", "rope_interleaved", true},
      {"models/qwen2", "layer_types",
       Json(Json::Array{"sliding_attention", "full_attention", "full_attention", "full_attention"})},
      {"models/gemma3", "attn_logit_softcapping", 50.0, unsupported},
      {"models/gemma3", "final_logit_softcapping", 30.0, unsupported},
      {"models/gemma3", "use_bidirectional_attention", true, unsupported},
      {"models/gemma3", "query_pre_attn_scalar", 0},
      {"models/gemma3", "sliding_window", 0},
      {"models/gemma3", "sliding_window_pattern", 0},
      {"models/gemma3", "tie_word_embeddings", false},
      {"models/gemma3_new", "rope_parameters",
       Json(Json::Object{{"full_attention", object}, {"sliding_attention", 5}})},
      {"models/olmo2", "clip_qkv", 8.0, unsupported},
  };
  for (const BadKey& bad : cases) {
    SCOPED_TRACE(std::string(bad.fixture) + ": " + bad.key + " = " + bad.value.dump());
    Json config = fixture_config(bad.fixture);
    config.set(bad.key, bad.value);
    expect_error([&] { describe(config); }, bad.code, bad.key);
  }
}

TEST(ConfigErrors, ListTheSupportedFamilies) {
  Json config = fixture_config("models/r1");
  config.set("model_type", "mamba");
  expect_error([&] { describe(config); }, ErrorCode::kUnsupported, "qwen3");
  expect_error([&] { describe(Json::object()); }, ErrorCode::kUnsupported, "gemma3_text");
}

TEST(ConfigErrors, RefuseExperts) {
  Json config = fixture_config("models/r1");
  config.set("num_local_experts", 16).set("moe_layers", Json(Json::Array{0, 1}));
  expect_error([&] { describe(config); }, ErrorCode::kUnsupported, "num_local_experts");
  config.set("moe_layers", Json::array());  // Experts in no layer: dense.
  EXPECT_NO_THROW(describe(config));
}

TEST(ConfigErrors, IgnoreHarmlessAndSwitchedOffKeys) {
  Json config = fixture_config("models/llama_tied");
  config.set("made_by", "someone").set("logit_scale", nullptr).set("use_rope_magic", false);
  config.set("quantization_config", nullptr).set("attention_dropout", 0.1);
  EXPECT_NO_THROW(describe(config));
}

TEST(ConfigErrors, AnswerForEveryTruncatedConfig) {
  const std::string text = fixture_config("models/gemma3_new").dump();
  for (size_t n = 0; n < text.size(); ++n) {
    EXPECT_THROW(describe(Json::parse(std::string_view(text).substr(0, n), "config.json")), Error);
  }
}

TEST(TiedOutput, FollowsTheTensorsWhenTheKeyIsAbsent) {
  Json config = fixture_config("models/olmo2");
  std::erase_if(config.as_object(), [](const auto& member) { return member.first == "tie_word_embeddings"; });
  EXPECT_TRUE(describe(config).spec.is_output_tied);
  EXPECT_FALSE(describe(config, {{"lm_head.weight", {288, 64}}}).spec.is_output_tied);
}

TEST(Rope, ComputesDefaultFrequencies) {
  const RopeTable table = make_rope_table(10000, 8);
  EXPECT_THAT(table.inv_freq, ElementsAre(1.0f, 0.1f, 0.01f, testing::FloatNear(0.001f, 1e-9f)));
}

TEST(Rope, SlowsLongWavelengthsOfLlama3) {
  RopeTable table = make_rope_table(500000, 64);
  const std::vector<float> before = table.inv_freq;
  scale_rope_llama3(table, 32, 1, 4, 8192);
  EXPECT_EQ(table.inv_freq.front(), before.front());
  EXPECT_FLOAT_EQ(table.inv_freq.back(), before.back() / 32);
  // Published values of Llama-3.2 in the interpolated range.
  for (size_t i = 0; i < before.size(); ++i) {
    EXPECT_LE(table.inv_freq[i], before[i]);
    EXPECT_GE(table.inv_freq[i], before[i] / 32 * 0.9999f);
  }
}

TEST(Rope, ReadsEveryKindOfScaling) {
  Json config = fixture_config("models/llama_tied");
  const auto table = [&](Json scaling) {
    config.set("rope_scaling", std::move(scaling));
    return describe(config).spec.rope_tables[0];
  };
  const RopeTable plain = table(nullptr);
  const RopeTable linear = table(Json(Json::Object{{"type", "linear"}, {"factor", 4.0}}));
  EXPECT_FLOAT_EQ(linear.inv_freq[3], plain.inv_freq[3] / 4);
  EXPECT_EQ(table(Json(Json::Object{{"rope_type", "default"}})).inv_freq, plain.inv_freq);
  const RopeTable yarn =
      table(Json(Json::Object{{"rope_type", "yarn"}, {"factor", 4.0}, {"original_max_position_embeddings", 32768}}));
  EXPECT_FLOAT_EQ(yarn.inv_freq.front(), plain.inv_freq.front());
  EXPECT_FLOAT_EQ(yarn.inv_freq.back(), plain.inv_freq.back() / 4);
  EXPECT_FLOAT_EQ(yarn.attention_factor, static_cast<float>(0.1 * std::log(4.0) + 1));
}

TEST(Rope, RefusesWhatItDoesNotKnow) {
  Json config = fixture_config("models/llama_tied");
  const auto refuse = [&](Json scaling, ErrorCode code, const char* text) {
    config.set("rope_scaling", std::move(scaling));
    expect_error([&] { describe(config); }, code, text);
  };
  refuse(Json(Json::Object{{"rope_type", "dynamic"}, {"factor", 2.0}}), ErrorCode::kUnsupported, "rope_type");
  refuse(Json(Json::Object{{"rope_type", "longrope"}}), ErrorCode::kUnsupported, "rope_type");
  refuse(Json(Json::Object{{"rope_type", "linear"}}), ErrorCode::kCorruptData, "rope_scaling.factor");
  refuse(Json(Json::Object{{"rope_type", "linear"}, {"factor", 0}}), ErrorCode::kCorruptData, "rope_scaling.factor");
  refuse(Json(Json::Object{{"rope_type", "llama3"}, {"factor", 8.0}}), ErrorCode::kCorruptData,
         "rope_scaling.low_freq_factor");
  refuse(Json(Json::Object{{"rope_type", "default"}, {"mrope_section", Json::array()}}), ErrorCode::kUnsupported,
         "mrope_section");
}

Json gguf_metadata(const std::string& arch) {
  Json metadata = Json::object();
  metadata.set("general.architecture", arch)
      .set("tokenizer.ggml.eos_token_id", 9)
      .set("tokenizer.ggml.eot_token_id", 8);
  const auto set = [&](const char* key, Json value) { metadata.set(arch + "." + key, std::move(value)); };
  set("block_count", 12);
  set("embedding_length", 64);
  set("context_length", 2048);
  set("feed_forward_length", 128);
  set("attention.head_count", 4);
  set("attention.head_count_kv", 2);
  set("attention.layer_norm_rms_epsilon", 1e-6);
  set("rope.freq_base", 10000.0);
  return metadata;
}

const TensorShapes kGgufShapes = {{"token_embd.weight", {100, 64}}};

ModelSpec describe_gguf_spec(const Json& metadata, const TensorShapes& tensors = kGgufShapes,
                             const std::vector<float>& divisors = {}) {
  return describe_gguf(metadata, "model.gguf", tensors, divisors).spec;
}

TEST(Gguf, ReadsTheCommonFacts) {
  const ModelSpec spec = describe_gguf_spec(gguf_metadata("llama"));
  EXPECT_EQ(spec.vocab_size, 100);
  EXPECT_EQ(spec.n_layers(), 12);
  EXPECT_EQ(spec.layers[0].head_dim, 16);
  EXPECT_EQ(spec.layers[0].rope_style, RopeStyle::kInterleaved);
  EXPECT_TRUE(spec.is_output_tied);
  EXPECT_THAT(spec.eos_ids, ElementsAre(9, 8));
  EXPECT_EQ(describe_gguf_spec(gguf_metadata("qwen2")).layers[0].rope_style, RopeStyle::kHalfSplit);
  EXPECT_FALSE(describe_gguf_spec(gguf_metadata("qwen2")).layers[0].has_qkv_bias);
  TensorShapes shapes = kGgufShapes;
  shapes["output.weight"] = {100, 64};
  shapes["blk.0.attn_q.bias"] = {64};
  EXPECT_TRUE(describe_gguf_spec(gguf_metadata("qwen2"), shapes).layers[0].has_qkv_bias);
  EXPECT_FALSE(describe_gguf_spec(gguf_metadata("qwen2"), shapes).is_output_tied);
}

TEST(Gguf, DividesFrequencies) {
  const std::vector<float> divisors = {1, 2, 4, 8, 8, 8, 8, 32};
  const ModelSpec plain = describe_gguf_spec(gguf_metadata("llama"));
  const ModelSpec spec = describe_gguf_spec(gguf_metadata("llama"), kGgufShapes, divisors);
  for (size_t i = 0; i < divisors.size(); ++i) {
    EXPECT_EQ(spec.rope_tables[0].inv_freq[i], plain.rope_tables[0].inv_freq[i] / divisors[i]);
  }
  expect_error([&] { describe_gguf_spec(gguf_metadata("llama"), kGgufShapes, {1, 2}); }, ErrorCode::kCorruptData,
               "rope_freqs.weight");
  expect_error([&] { describe_gguf_spec(gguf_metadata("llama"), kGgufShapes, {1, 2, 4, 8, 8, 8, 8, 0}); },
               ErrorCode::kCorruptData, "rope_freqs.weight");
}

TEST(Gguf, Llama4WithoutWindowKeyIsChunkedWithNopeLayers) {
  Json metadata = gguf_metadata("llama4");
  ModelSpec spec = describe_gguf_spec(metadata);
  EXPECT_EQ(spec.layers[0].window.size, 8192);
  EXPECT_EQ(spec.layers[3].rope_style, RopeStyle::kNone);
  EXPECT_TRUE(spec.layers[3].temperature.is_on);
  metadata.set("llama4.attention.sliding_window", 0);
  spec = describe_gguf_spec(metadata);
  for (const LayerSpec& layer : spec.layers) {
    EXPECT_EQ(layer.window.kind, Kind::kFull);
    EXPECT_EQ(layer.rope_style, RopeStyle::kInterleaved);
    EXPECT_EQ(layer.qk_norm, QkNorm::kWeightless);
  }
}

TEST(Gguf, Gemma3SlidesFiveOfSixLayers) {
  Json metadata = gguf_metadata("gemma3");
  metadata.set("gemma3.attention.sliding_window", 8);
  const ModelDescription description = describe_gguf(metadata, "model.gguf", kGgufShapes, {});
  EXPECT_EQ(description.norm_transform, NormTransform::kNone);  // The file has 1 + w.
  for (int i = 0; i < 12; ++i) {
    EXPECT_EQ(description.spec.layers[static_cast<size_t>(i)].window.kind, i % 6 == 5 ? Kind::kFull : Kind::kSliding);
  }
}

TEST(Gguf, Gemma3TakesOneFlagForEachLayer) {
  Json metadata = gguf_metadata("gemma3");
  Json flags = Json::array();
  for (int i = 0; i < 12; ++i) flags.push(i % 2 == 0);
  metadata.set("gemma3.attention.sliding_window_pattern", flags);
  const ModelSpec spec = describe_gguf_spec(metadata);
  EXPECT_EQ(spec.layers[0].window.kind, Kind::kSliding);
  EXPECT_EQ(spec.layers[1].window.kind, Kind::kFull);
}

TEST(Gguf, ErrorsNameTheKey) {
  const BadKey cases[] = {
      {"llama", "block_count", 0},
      {"llama", "block_count", 1 << 20},
      {"llama", "embedding_length", "64"},
      {"llama", "attention.head_count", Json(Json::Array{4, 4})},
      {"llama", "attention.head_count_kv", 3},
      {"llama", "attention.key_length", 7},
      {"llama", "attention.value_length", 32},
      {"llama", "rope.dimension_count", 8},
      {"llama", "rope.freq_base", -1.0},
      {"llama", "rope.scaling.type", "longrope", ErrorCode::kUnsupported},
      {"llama", "expert_count", 8, ErrorCode::kUnsupported},
      {"llama", "attention.sliding_window", 4096, ErrorCode::kUnsupported},
      {"llama", "logit_scale", 0.5, ErrorCode::kUnsupported},
      {"llama", "attention.causal", false, ErrorCode::kUnsupported},
      {"gemma3", "final_logit_softcapping", 30.0, ErrorCode::kUnsupported},
      {"olmo2", "attention.sliding_window", 4096, ErrorCode::kUnsupported},
  };
  for (const BadKey& bad : cases) {
    SCOPED_TRACE(std::string(bad.fixture) + "." + bad.key + " = " + bad.value.dump());
    Json metadata = gguf_metadata(bad.fixture);
    const std::string key = std::string(bad.fixture) + "." + bad.key;
    metadata.set(key, bad.value);
    expect_error([&] { describe_gguf_spec(metadata); }, bad.code, key);
  }
  expect_error([&] { describe_gguf_spec(gguf_metadata("rwkv7")); }, ErrorCode::kUnsupported, "general.architecture");
  expect_error([&] { describe_gguf_spec(gguf_metadata("llama"), {}); }, ErrorCode::kCorruptData, "token_embd.weight");
}

}  // namespace
}  // namespace mobilellm
