// Tests of names, shapes and errors of binding, on sources without files.
#include "model/binding.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "mobilellm/error.h"
#include "model/check.h"

namespace mobilellm {
namespace {

using testing::HasSubstr;

/// Tensors in memory, all bytes zero.
class MemorySource : public WeightSource {
 public:
  void add(const std::string& name, std::vector<int64_t> shape, DType dtype = DType::kF32) {
    TensorView view;
    view.name = name;
    view.dtype = dtype;
    view.shape = std::move(shape);
    const DTypeInfo& info = dtype_info(dtype);
    data_.push_back(std::make_unique<std::vector<std::byte>>(static_cast<size_t>(view.n_values() / info.block_values) *
                                                             info.block_bytes));
    view.data = *data_.back();
    tensors_.push_back(std::move(view));
  }
  void rename(const std::string& from, const std::string& to) {
    for (TensorView& tensor : tensors_) {
      if (tensor.name == from) tensor.name = to;
    }
  }
  void remove(const std::string& name) {
    std::erase_if(tensors_, [&](const TensorView& tensor) { return tensor.name == name; });
  }
  TensorView& at(const std::string& name) {
    for (TensorView& tensor : tensors_) {
      if (tensor.name == name) return tensor;
    }
    throw std::out_of_range(name);
  }
  void finish() { build_index(); }

  const std::vector<TensorView>& tensors() const override { return tensors_; }
  std::string path() const override { return "memory.safetensors"; }
  void check_unchanged() const override {}

 private:
  std::vector<TensorView> tensors_;
  std::vector<std::unique_ptr<std::vector<std::byte>>> data_;
};

Json small_config(const std::string& model_type) {
  return Json(Json::Object{{"model_type", model_type},
                           {"hidden_size", 64},
                           {"vocab_size", 32},
                           {"num_hidden_layers", 2},
                           {"num_attention_heads", 4},
                           {"num_key_value_heads", 2},
                           {"head_dim", 16},
                           {"intermediate_size", 96},
                           {"tie_word_embeddings", true}});
}

ModelDescription small_model(const std::string& model_type) {
  return describe_config(small_config(model_type), "config.json", {}, false);
}

/// A source with every tensor of the table under its usual name.
std::shared_ptr<MemorySource> full_source(const ModelDescription& description) {
  auto source = std::make_shared<MemorySource>();
  for (const TensorEntry& entry : tensor_table(description)) source->add(entry.names.front(), entry.shape);
  return source;
}

std::string binding_error(const ModelDescription& description, std::shared_ptr<MemorySource> source,
                          const std::optional<QuantizationConfig>& quantization = {}) {
  source->finish();
  try {
    bind_weights(description, source, quantization);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

TEST(Binding, FillsEveryRole) {
  for (const char* model_type : {"llama4_text", "llama", "qwen2", "qwen3", "gemma3_text", "olmo2"}) {
    SCOPED_TRACE(model_type);
    const ModelDescription description = small_model(model_type);
    auto source = full_source(description);
    source->finish();
    const ModelWeights weights = bind_weights(description, source, {});
    EXPECT_EQ(weights.embed_tokens.rows, 32);
    EXPECT_EQ(weights.lm_head.rows, 0);
    ASSERT_EQ(weights.layers.size(), 2U);
    const LayerWeights& layer = weights.layers[1];
    EXPECT_EQ(layer.down_proj.matrix.cols, 96);
    EXPECT_EQ(layer.q_proj.bias.size(), description.spec.layers[0].has_qkv_bias ? 64U : 0U);
    const NormPlacement placement = description.spec.layers[0].norm_placement;
    EXPECT_EQ(layer.attention_norm.empty(), placement == NormPlacement::kPost);
    EXPECT_EQ(layer.attention_post_norm.empty(), placement == NormPlacement::kPre);
    EXPECT_EQ(layer.mlp_norm.empty(), placement == NormPlacement::kPost);
    EXPECT_EQ(layer.mlp_post_norm.empty(), placement == NormPlacement::kPre);
    int64_t n_values = 0;
    for (const TensorView& tensor : source->tensors()) n_values += tensor.n_values();
    EXPECT_EQ(n_values, parameter_count(description.spec));
  }
}

TEST(Binding, FoldsOneIntoGemmaNorms) {
  const ModelDescription description = small_model("gemma3_text");
  auto source = full_source(description);
  source->finish();
  const ModelWeights weights = bind_weights(description, source, {});
  EXPECT_EQ(weights.final_norm[0], 1.0f);
  EXPECT_EQ(weights.layers[0].q_norm[0], 1.0f);
  EXPECT_EQ(weights.layers[0].mlp_post_norm[0], 1.0f);
}

TEST(Binding, AcceptsTheNamesOfConvertedFiles) {
  const ModelDescription description = small_model("llama4_text");
  auto source = std::make_shared<MemorySource>();
  source->add("tok_embeddings.weight", {32, 64});
  source->add("norm.weight", {64});
  for (int i = 0; i < 2; ++i) {
    const std::string layer = "layers." + std::to_string(i) + ".";
    source->add(layer + "attention_norm.weight", {64});
    source->add(layer + "ffn_norm.weight", {64});
    source->add(layer + "attention.q_proj.weight", {64, 64});
    source->add(layer + "attention.k_proj.weight", {32, 64});
    source->add(layer + "attention.v_proj.weight", {32, 64});
    source->add(layer + "attention.o_proj.weight", {64, 64});
    source->add(layer + "feed_forward.gate_proj.weight", {96, 64});
    source->add(layer + "feed_forward.up_proj.weight", {96, 64});
    source->add(layer + "feed_forward.down_proj.weight", {64, 96});
  }
  EXPECT_EQ(binding_error(description, source), "");
}

TEST(Binding, ErrorsNameTensorShapeAndExpectedShape) {
  const ModelDescription description = small_model("llama");
  auto source = full_source(description);
  source->at("model.layers.1.self_attn.k_proj.weight").shape = {64, 32};
  const std::string error = binding_error(description, source);
  EXPECT_THAT(error, HasSubstr("model.layers.1.self_attn.k_proj.weight"));
  EXPECT_THAT(error, HasSubstr("has shape [64, 32]"));
  EXPECT_THAT(error, HasSubstr("[32, 64]"));
  EXPECT_THAT(error, HasSubstr("memory.safetensors"));
}

TEST(Binding, ListsMissingTensors) {
  const ModelDescription description = small_model("llama");
  auto source = full_source(description);
  source->remove("model.norm.weight");
  source->remove("model.layers.0.mlp.up_proj.weight");
  const std::string error = binding_error(description, source);
  EXPECT_THAT(error, HasSubstr("2 tensors are missing"));
  EXPECT_THAT(error, HasSubstr("layers.0.mlp.up_proj.weight"));
  EXPECT_THAT(error, HasSubstr("norm.weight"));
}

TEST(Binding, RefusesTypesWithoutValues) {
  const ModelDescription description = small_model("llama");
  auto integers = std::make_shared<MemorySource>();
  for (const TensorEntry& entry : tensor_table(description)) {
    const bool is_target = entry.role == TensorRole::kVProj && entry.layer == 0;
    integers->add(entry.names.front(), entry.shape, is_target ? DType::kI32 : DType::kF32);
  }
  EXPECT_THAT(binding_error(description, integers), HasSubstr("model.layers.0.self_attn.v_proj.weight"));
  auto unknown = full_source(description);
  unknown->at("model.embed_tokens.weight").unsupported_type = "IQ3_S";
  EXPECT_THAT(binding_error(description, unknown), HasSubstr("IQ3_S"));
}

QuantizationConfig four_bits() {
  QuantizationConfig config;
  config.defaults = {QuantMode::kAffine, 4, 32};
  return config;
}

/// Replaces a matrix [out, in] by packed groups.
void pack(MemorySource& source, const std::string& path, int64_t out, int64_t in, int bits = 4, int group = 32) {
  source.remove(path + ".weight");
  source.add(path + ".weight", {out, in * bits / 32}, DType::kU32);
  source.add(path + ".scales", {out, in / group}, DType::kBF16);
  source.add(path + ".biases", {out, in / group}, DType::kBF16);
}

TEST(Binding, BindsPackedGroupsWhereScalesExist) {
  const ModelDescription description = small_model("llama");
  auto source = full_source(description);
  pack(*source, "model.layers.0.mlp.up_proj", 96, 64);
  pack(*source, "model.embed_tokens", 32, 64, 8);
  source->finish();
  QuantizationConfig config = four_bits();
  config.overrides["model.embed_tokens"] = QuantizationParams{QuantMode::kAffine, 8, 32};
  const ModelWeights weights = bind_weights(description, source, config);
  EXPECT_EQ(weights.layers[0].up_proj.matrix.bits, 4);
  EXPECT_EQ(weights.layers[0].up_proj.matrix.cols, 64);
  EXPECT_EQ(weights.layers[0].gate_proj.matrix.bits, 0);
  EXPECT_EQ(weights.embed_tokens.bits, 8);
}

TEST(Binding, ChecksPackedGroups) {
  const ModelDescription description = small_model("llama");
  const std::string path = "model.layers.0.mlp.up_proj";
  const auto packed = [&] {
    auto source = full_source(description);
    pack(*source, path, 96, 64);
    return source;
  };
  EXPECT_THAT(binding_error(description, packed()), HasSubstr("\"quantization\""));
  QuantizationConfig config = four_bits();
  EXPECT_EQ(binding_error(description, packed(), config), "");
  config.overrides[path] = std::nullopt;
  EXPECT_THAT(binding_error(description, packed(), config), HasSubstr("not quantized"));
  config = four_bits();
  config.defaults.bits = 8;
  EXPECT_THAT(binding_error(description, packed(), config), HasSubstr(path + ".weight"));
  config = four_bits();
  auto source = packed();
  source->at(path + ".scales").shape = {2, 96};
  EXPECT_THAT(binding_error(description, source, config), HasSubstr(path + ".scales"));
  source = packed();
  source->remove(path + ".biases");
  EXPECT_THAT(binding_error(description, source, config), HasSubstr(path + ".biases"));
  config.defaults.group_size = 128;
  EXPECT_THAT(binding_error(description, packed(), config), HasSubstr("group size 128"));
}

TEST(Match, ReportsEveryDeviation) {
  const ModelDescription description = small_model("llama");
  auto source = full_source(description);
  source->remove("model.layers.0.mlp.up_proj.weight");
  source->at("model.norm.weight").shape = {8, 8};
  source->add("model.layers.7.mlp.up_proj.weight", {96, 64});
  source->add("lm_head.weight", {32, 64});
  source->add("model.layers.0.self_attn.rotary_emb.inv_freq", {8});
  source->finish();
  std::map<std::string, TensorStatus> status;
  for (const TensorCheck& check : match_tensors(description, *source, {}).checks) status[check.name] = check.status;
  EXPECT_EQ(status.at("model.layers.0.mlp.down_proj.weight"), TensorStatus::kOk);
  EXPECT_EQ(status.at("model.norm.weight"), TensorStatus::kMisshaped);
  EXPECT_EQ(status.at("model.layers.7.mlp.up_proj.weight"), TensorStatus::kUnexpected);
  EXPECT_EQ(status.at("lm_head.weight"), TensorStatus::kIgnored);
  EXPECT_EQ(status.at("model.layers.0.self_attn.rotary_emb.inv_freq"), TensorStatus::kIgnored);
  EXPECT_EQ(status.at("model.layers.0.mlp.up_proj.weight"), TensorStatus::kMissing);
}

}  // namespace
}  // namespace mobilellm
