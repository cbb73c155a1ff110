// Damaged and awkward models in every target format: a clear error with nothing left behind, or a correct result.
#include <fmt/core.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <cmath>
#include <csignal>
#include <cstring>
#include <functional>
#include <limits>

#include "base/files.h"
#include "codec/codec.h"
#include "formats/checkpoint_dir.h"
#include "formats/safetensors_writer.h"
#include "model/loader.h"
#include "quant/quantize_model.h"
#include "tests/support/scratch_folder.h"

namespace mobilellm {
namespace {

const std::string kModel = MOBILELLM_SOURCE_DIR "/tests/golden/e2e/r1_chat";
const std::string kSharded = MOBILELLM_SOURCE_DIR "/tests/golden/models/llama_untied_sharded";
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

/// Options of one way to quantize, and its name.
struct Way {
  std::string name;
  std::function<void(QuantizeOptions&)> apply;
};

std::vector<Way> formats() {
  std::vector<Way> ways;
  for (const int bits : {2, 3, 4, 5, 6, 8}) {
    ways.push_back({fmt::format("affine{}", bits),
                    [bits](QuantizeOptions& options) { options.params = {QuantMode::kAffine, bits, 32}; }});
  }
  for (const QuantMode mode : {QuantMode::kMxfp4, QuantMode::kNvfp4, QuantMode::kMxfp8}) {
    const QuantizationParams params = {mode, mode == QuantMode::kMxfp8 ? 8 : 4, mode == QuantMode::kNvfp4 ? 16 : 32};
    ways.push_back({quant_mode_name(mode), [params](QuantizeOptions& options) { options.params = params; }});
  }
  for (const DType type : quantized_block_types()) {
    ways.push_back({dtype_name(type), [type](QuantizeOptions& options) {
                      options.format = ModelFormat::kGguf;
                      options.block_type = type;
                    }});
  }
  return ways;
}

std::vector<Way> calibrated_methods() {
  const auto affine = [](QuantMethod method) {
    return [method](QuantizeOptions& options) {
      options.params = {QuantMode::kAffine, 4, 32};
      options.method = method;
    };
  };
  return {{"fit", affine(QuantMethod::kFit)},
          {"gptq", affine(QuantMethod::kGptq)},
          {"yaqa", affine(QuantMethod::kYaqa)},
          {"dwq",
           [affine](QuantizeOptions& options) {
             affine(QuantMethod::kDwq)(options);
             options.distillation.n_steps = 2;
           }},
          {"target",
           [](QuantizeOptions& options) {
             options.target_bpw = 12.0;
             options.method = QuantMethod::kYaqa;
           }},
          {"gguf_target", [](QuantizeOptions& options) {
             options.format = ModelFormat::kGguf;
             options.target_bpw = 20.0;
             options.method = QuantMethod::kFit;
           }}};
}

class BadInput : public testing::Test {
 protected:
  ScratchFolder scratch;

  /// A copy of the model after `change` saw all tensors that are F32.
  std::string changed_model(const std::function<void(const TensorView&, std::span<float>)>& change) const {
    const CheckpointDir checkpoint = open_checkpoint(kModel);
    std::string path = scratch / "source";
    std::filesystem::remove_all(path);
    std::filesystem::copy(kModel, path);
    std::filesystem::remove(path + "/model.safetensors");
    std::vector<PlannedTensor> tensors;
    for (const TensorView& tensor : checkpoint.weights->tensors()) {
      std::vector<float> values(tensor.data.size() / sizeof(float));
      std::memcpy(values.data(), tensor.data.data(), tensor.data.size());
      change(tensor, values);
      tensors.push_back({tensor.name, tensor.dtype, tensor.shape,
                         [values](const ByteSink& sink) { sink(std::as_bytes(std::span(values))); }});
    }
    write_safetensors(path + "/model.safetensors", tensors, {});
    return path;
  }
  QuantizeOptions options_for(const std::string& source, const Way& way) const {
    QuantizeOptions options;
    options.source = source;
    options.calibration_tokens = 96;
    options.n_threads = 1;
    way.apply(options);
    options.target = scratch / (options.format == ModelFormat::kGguf ? "out.gguf" : "out");
    return options;
  }
  void expect_nothing_left(const std::string& way) const {
    for (const auto& entry : std::filesystem::directory_iterator(scratch.path())) {
      EXPECT_THAT(entry.path().filename().string(), testing::AnyOf("source", "text.txt")) << way;
    }
  }
};

TEST_F(BadInput, NanAndInfinityAreNamedByTensorAndPlace) {
  std::vector<Way> ways = formats();
  for (const Way& way : calibrated_methods()) ways.push_back(way);
  for (const float bad : {kNan, -kInfinity}) {
    const std::string source = changed_model([&](const TensorView& tensor, std::span<float> values) {
      if (tensor.name == "model.layers.1.feed_forward.up_proj.weight") values[3 * 64 + 7] = bad;
    });
    for (const Way& way : ways) {
      SCOPED_TRACE(way.name);
      try {
        quantize_model(options_for(source, way));
        ADD_FAILURE() << "no error";
      } catch (const Error& error) {
        EXPECT_EQ(error.code(), ErrorCode::kCorruptData);
        EXPECT_THAT(error.what(), testing::ContainsRegex("layers.1.feed_forward.up_proj|blk.1.ffn_up"));
        // 3 * 64 + 7, or row and column.
        EXPECT_THAT(error.what(), testing::ContainsRegex("value 199|row 3, column 7"));
      }
      expect_nothing_left(way.name);
    }
  }
}

TEST_F(BadInput, NormsThatAreNotFiniteAreNamed) {
  const std::string source = changed_model([&](const TensorView& tensor, std::span<float> values) {
    if (tensor.name == "model.norm.weight") values[5] = kNan;
  });
  for (const Way& way : calibrated_methods()) {
    expect_error(ErrorCode::kCorruptData, {"model.norm.weight", "value 5"},
                 [&] { quantize_model(options_for(source, way)); });
    expect_nothing_left(way.name);
  }
}

// Finite weights whose products overflow: nothing can be learned from such inputs.
TEST_F(BadInput, OverflowDuringCalibrationIsAnError) {
  const std::string source = changed_model([&](const TensorView& tensor, std::span<float> values) {
    if (tensor.name.ends_with("gate_proj.weight") || tensor.name.ends_with("up_proj.weight")) {
      for (float& value : values) value *= 1e25F;
    }
  });
  for (const Way& way : calibrated_methods()) {
    SCOPED_TRACE(way.name);
    if (way.name == "gguf_target") continue;  // Its scales would overflow before.
    expect_error(ErrorCode::kCorruptData, {"finite"}, [&] { quantize_model(options_for(source, way)); });
    expect_nothing_left(way.name);
  }
}

// Zeros, constants, denormals and lone outliers in all rows of all matrices.
TEST_F(BadInput, AwkwardRowsStayCloseInEveryFormat) {
  const std::string source = changed_model([&](const TensorView& tensor, std::span<float> values) {
    if (tensor.shape.size() != 2) return;
    const auto cols = static_cast<size_t>(tensor.shape[1]);
    for (size_t i = 0; i < values.size(); ++i) {
      const size_t row = i / cols % 6;
      if (row == 0) values[i] = 0.0F;
      if (row == 1) values[i] = 0.03125F;
      if (row == 2) values[i] = std::numeric_limits<float>::denorm_min() * static_cast<float>(i % 100);
      if (row == 3 && i % cols >= 32) values[i] = -0.5F;
      if (row == 4) values[i] = i % cols == 40 ? 2.0F : 1e-30F;
    }
  });
  const LoadedModel before = load_model(source);
  std::vector<Way> ways = formats();
  for (const Way& way : calibrated_methods()) ways.push_back(way);
  for (const Way& way : ways) {
    SCOPED_TRACE(way.name);
    const QuantizeOptions options = options_for(source, way);
    quantize_model(options);
    const LoadedModel after = load_model(options.target);
    for (const MatrixId& id : matrices_of(before.spec)) {
      const StoredMatrix& from = matrix_of(before.weights, id.role, id.layer);
      const StoredMatrix& to = matrix_of(after.weights, id.role, id.layer);
      std::vector<float> row(static_cast<size_t>(from.cols));
      std::vector<float> got(row.size());
      // Where rows make up for each other's errors, also one of zeros does: by 0.08 of a step of 4 bits over the range
      // of the largest row, as measured; more than 0.2 would be wrong.
      float from_others = 0.0F;
      for (int64_t i = 0; options.method >= QuantMethod::kYaqa && i < from.rows; ++i) {
        from.codec->decode_rows(from, i, i + 1, row.data());
        for (const float value : row) from_others = std::max(from_others, std::fabs(value) * 0.2F * 2.0F / 15.0F);
      }
      for (int64_t i = 0; i < from.rows; ++i) {
        from.codec->decode_rows(from, i, i + 1, row.data());
        to.codec->decode_rows(to, i, i + 1, got.data());
        float largest = 0.0F;
        for (const float value : row) largest = std::max(largest, std::fabs(value));
        for (size_t k = 0; k < got.size(); ++k) {
          ASSERT_TRUE(std::isfinite(got[k])) << from.name << " row " << i;
          ASSERT_LE(std::fabs(got[k] - row[k]), largest * 1.6F + from_others + 2e-6F) << from.name << " row " << i;
        }
      }
    }
    std::filesystem::remove_all(options.target);
  }
}

// The model's widths are 64, 80 and 112: no multiples of 256, and 80 and 112 not of 32.
TEST_F(BadInput, RowsThatDoNotDivideAreStoredOtherwiseAndToldSo) {
  for (const Way& way : formats()) {
    SCOPED_TRACE(way.name);
    const QuantizeOptions options = options_for(kModel, way);
    const QuantizeReport report = quantize_model(options);
    const LoadedModel after = load_model(options.target);
    int n_float = 0;
    for (const QuantizedMatrix& matrix : report.matrices) n_float += matrix.storage == "float" ? 1 : 0;
    int n_stored_float = 0;
    for (const MatrixId& id : matrices_of(after.spec)) {
      const StoredMatrix& matrix = matrix_of(after.weights, id.role, id.layer);
      n_stored_float += matrix.bits == 0 && !is_block_dtype(matrix.dtype) ? 1 : 0;
    }
    EXPECT_EQ(n_float, n_stored_float);
    EXPECT_EQ(n_float, way.name == "nvfp4" ? 0 : 3);
    std::filesystem::remove_all(options.target);
  }
}

TEST_F(BadInput, WrongShardsAreNamed) {
  struct Damage {
    std::string part;
    ErrorCode code;
    std::function<void(const std::string& path)> make;
  };
  const std::string shard = "model-00002-of-00003.safetensors";
  const std::string first = "model-00001-of-00003.safetensors";
  const auto edit_header = [](const std::string& path, const std::string& from, const std::string& to) {
    std::string bytes = read_file(path, size_t{1} << 24);
    const size_t at = bytes.find(from);
    ASSERT_NE(at, std::string::npos);
    ASSERT_EQ(from.size(), to.size());
    bytes.replace(at, from.size(), to);
    std::ofstream(path, std::ios::binary) << bytes;
  };
  const std::vector<Damage> damages = {
      {shard, ErrorCode::kNotFound, [&](const std::string& path) { std::filesystem::remove(path + "/" + shard); }},
      {shard, ErrorCode::kCorruptData,
       [&](const std::string& path) {
         std::filesystem::resize_file(path + "/" + shard, std::filesystem::file_size(path + "/" + shard) - 100);
       }},
      {shard, ErrorCode::kCorruptData, [&](const std::string& path) { std::ofstream(path + "/" + shard) << "{}"; }},
      // The same file twice: its tensors overlap with those of the other shard.
      {"", ErrorCode::kCorruptData,
       [&](const std::string& path) {
         std::filesystem::remove(path + "/" + shard);
         std::filesystem::copy_file(path + "/" + first, path + "/" + shard);
       }},
      {"lm_head", ErrorCode::kCorruptData,
       [&](const std::string& path) { edit_header(path + "/" + first, "[288,64]", "[64,288]"); }},
      // Two tensors in one range.
      {first, ErrorCode::kCorruptData,
       [&](const std::string& path) {
         edit_header(path + "/" + first, "\"data_offsets\":[0,", "\"data_offsets\":[4,");
       }},
  };
  const std::vector<Way> ways = {formats().front(), formats().back(), calibrated_methods()[1]};
  for (size_t i = 0; i < damages.size(); ++i) {
    for (const Way& way : ways) {
      SCOPED_TRACE(fmt::format("damage {}, {}", i, way.name));
      std::filesystem::remove_all(scratch / "source");
      std::filesystem::copy(kSharded, scratch / "source");
      damages[i].make(scratch / "source");
      expect_error(damages[i].code, {damages[i].part}, [&] { quantize_model(options_for(scratch / "source", way)); });
      expect_nothing_left(way.name);
    }
  }
}

// The limit on file sizes stands for a full disk: it strikes in every file that is written.
TEST_F(BadInput, AFullDiskLeavesNothing) {
  rlimit old_limit{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &old_limit), 0);
  auto* const old_handler = std::signal(SIGXFSZ, SIG_IGN);
  std::vector<Way> ways = formats();
  for (const Way& way : calibrated_methods()) ways.push_back(way);
  for (const Way& way : ways) {
    SCOPED_TRACE(way.name);
    for (const rlim_t size : {300, 20'000, 50'000}) {
      const rlimit limit = {size, old_limit.rlim_max};
      ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &limit), 0);
      expect_error(ErrorCode::kIo, {"cannot write"}, [&] { quantize_model(options_for(kModel, way)); });
      ::setrlimit(RLIMIT_FSIZE, &old_limit);
      // Finished matrices of calibrated runs wait, under a name that is no model's.
      for (const char* kept : {".out.unfinished", ".out.gguf.unfinished"}) {
        EXPECT_FALSE(file_exists(scratch / kept + "/config.json"));
        std::filesystem::remove_all(scratch / kept);
      }
      expect_nothing_left(way.name);
    }
  }
  std::signal(SIGXFSZ, old_handler);
}

}  // namespace
}  // namespace mobilellm
