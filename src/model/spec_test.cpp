// Tests of counts and consistency of model descriptions.
#include "model/spec.h"

#include <gtest/gtest.h>

#include "mobilellm/error.h"
#include "model/arch/registry.h"

namespace mobilellm {
namespace {

/// Shape of a published MobileLLM-R1 model; vocabulary 128256, tied.
ModelSpec published_r1(int n_layers, int n_heads, int n_kv_heads, int d_model, int d_ff) {
  ModelSpec spec;
  spec.vocab_size = 128256;
  spec.d_model = d_model;
  spec.max_context = 32768;
  LayerSpec layer;
  layer.n_heads = n_heads;
  layer.n_kv_heads = n_kv_heads;
  layer.head_dim = 64;
  layer.d_ff = d_ff;
  layer.score_scale = 0.125f;
  layer.qk_norm = QkNorm::kWeightless;
  layer.rope_style = RopeStyle::kInterleaved;
  spec.layers.assign(static_cast<size_t>(n_layers), layer);
  RopeTable table;
  table.inv_freq.assign(32, 1.0f);
  spec.rope_tables.push_back(table);
  return spec;
}

TEST(Spec, CountsThePublishedSizes) {
  const ModelSpec small = published_r1(15, 9, 3, 576, 2048);
  const ModelSpec medium = published_r1(15, 16, 4, 1024, 4096);
  const ModelSpec large = published_r1(22, 24, 6, 1536, 6144);
  EXPECT_EQ(parameter_count(small), 140248512);
  EXPECT_EQ(parameter_count(medium), 359431168);
  EXPECT_EQ(parameter_count(large), 949685760);
  EXPECT_EQ(kv_bytes_per_token(small, 2), 11520);
  EXPECT_EQ(kv_bytes_per_token(medium, 2), 15360);
  EXPECT_EQ(kv_bytes_per_token(large, 2), 33792);
  EXPECT_EQ(kv_bytes(large, 2, 5000), 33792 * 5000);
  ModelSpec with_windows = large;
  for (size_t i = 0; i < 11; ++i) with_windows.layers[i].window = {AttentionWindow::Kind::kSliding, 512};
  EXPECT_EQ(kv_bytes(with_windows, 2, 100), 33792 * 100);
  EXPECT_EQ(kv_bytes(with_windows, 2, 5000), 33792 / 2 * 5000 + 33792 / 2 * 512);
}

TEST(Spec, RefusesImpossibleSizes) {
  const auto broken = [](auto change) {
    ModelSpec spec = published_r1(2, 4, 2, 64, 64);
    change(spec);
    EXPECT_THROW(validate(spec, "config.json"), Error);
  };
  EXPECT_NO_THROW(validate(published_r1(2, 4, 2, 64, 64), "config.json"));
  broken([](ModelSpec& spec) { spec.vocab_size = 0; });
  broken([](ModelSpec& spec) { spec.d_model = 1 << 20; });
  broken([](ModelSpec& spec) { spec.layers.clear(); });
  broken([](ModelSpec& spec) { spec.layers[1].n_kv_heads = 3; });
  broken([](ModelSpec& spec) { spec.layers[0].head_dim = 63; });
  broken([](ModelSpec& spec) { spec.layers[0].rope_table = 1; });
  broken([](ModelSpec& spec) { spec.layers[0].d_ff = 0; });
  broken([](ModelSpec& spec) { spec.layers[0].window = {AttentionWindow::Kind::kSliding, 0}; });
  broken([](ModelSpec& spec) { spec.norm_eps = 0; });
  broken([](ModelSpec& spec) { spec.rope_tables[0].inv_freq.pop_back(); });
}

TEST(AttentionWindow, KnowsTheFirstVisiblePosition) {
  const AttentionWindow full;
  const AttentionWindow sliding = {AttentionWindow::Kind::kSliding, 4};
  const AttentionWindow chunked = {AttentionWindow::Kind::kChunked, 4};
  EXPECT_EQ(full.first_visible(100), 0);
  EXPECT_EQ(sliding.first_visible(3), 0);
  EXPECT_EQ(sliding.first_visible(4), 1);
  EXPECT_EQ(chunked.first_visible(3), 0);
  EXPECT_EQ(chunked.first_visible(4), 4);
  EXPECT_EQ(chunked.first_visible(7), 4);
}

}  // namespace
}  // namespace mobilellm
