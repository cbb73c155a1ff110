// Interrupted runs go on where they stopped, with the bytes of an uninterrupted one; other runs start over.
#include "quant/kept_run.h"

#include <fmt/core.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <functional>
#include <limits>
#include <map>

#include "base/files.h"
#include "tests/support/scratch_folder.h"

namespace mobilellm {
namespace {

const std::string kModel = MOBILELLM_SOURCE_DIR "/tests/golden/e2e/r1_chat";

class KeptRunTest : public testing::Test {
 protected:
  ScratchFolder folder;

  QuantizeOptions options(const std::string& name) const {
    QuantizeOptions options;
    options.source = kModel;
    options.target = folder / name;
    options.method = QuantMethod::kGptq;
    options.params = {QuantMode::kAffine, 3, 32};
    options.calibration = {text_};
    options.calibration_tokens = 256;
    options.n_threads = 1;
    return options;
  }
  /// All files of a target by name.
  static std::map<std::string, std::string> contents(const std::string& path) {
    std::map<std::string, std::string> files;
    if (file_exists(path)) return {{"", read_file(path, size_t{1} << 24)}};
    for (const auto& entry : std::filesystem::directory_iterator(path)) {
      files[entry.path().filename().string()] = read_file(entry.path().string(), size_t{1} << 24);
    }
    return files;
  }
  /// Inodes of the kept parts: a part that is written again has another one.
  static std::map<std::string, ino_t> parts(const std::string& path) {
    std::map<std::string, ino_t> inodes;
    if (!directory_exists(path)) return inodes;
    for (const auto& entry : std::filesystem::directory_iterator(path)) {
      struct stat info{};
      if (::stat(entry.path().c_str(), &info) == 0) inodes[entry.path().filename().string()] = info.st_ino;
    }
    return inodes;
  }

 private:
  std::string text_ = folder.write("text.txt", [] {
    std::string text;
    for (int i = 0; i < 60; ++i) text += fmt::format("The sum of {} and {} is {}.\n", i, 3 * i, 4 * i);
    return text;
  }());
};

TEST_F(KeptRunTest, AnInterruptedRunGoesOnWithTheSameBytes) {
  for (const char* name : {"fixed", "mixed", "mixed.gguf"}) {
    SCOPED_TRACE(name);
    QuantizeOptions whole = options(name);
    if (std::string_view(name) != "fixed") whole.target_bpw = 14.0;
    if (whole.target.ends_with(".gguf")) {
      whole.format = ModelFormat::kGguf;
      whole.method = QuantMethod::kFit;
    }
    const QuantizeReport expected_report = quantize_model(whole);
    const auto expected = contents(whole.target);
    std::filesystem::remove_all(whole.target);

    const std::string kept = folder / fmt::format(".{}.unfinished", name);
    size_t n_before = 0;
    for (const double stop_at : {0.0, 0.3, 0.7}) {
      QuantizeOptions cut = whole;
      std::atomic<bool> stop = false;
      cut.cancel = &stop;
      cut.on_progress = [&](const char* stage, double fraction) {
        stop = std::string_view(stage) == "quantizing" && fraction > stop_at;
      };
      expect_error(ErrorCode::kCancelled, {"run the same command again", kept}, [&] { quantize_model(cut); });
      EXPECT_FALSE(std::filesystem::exists(whole.target));
      EXPECT_GT(parts(kept).size(), 1U);
      EXPECT_GE(parts(kept).size(), n_before);
      n_before = parts(kept).size();
    }
    const auto before = parts(kept);
    auto after = before;
    QuantizeOptions last = whole;
    last.n_threads = 2;
    last.on_progress = [&](const char* stage, double fraction) {
      if (std::string_view(stage) == "quantizing" && fraction == 1.0) after = parts(kept);
    };
    const QuantizeReport report = quantize_model(last);
    EXPECT_EQ(contents(whole.target), expected);
    for (const auto& [part, inode] : before) EXPECT_EQ(after[part], inode) << part;
    EXPECT_GT(after.size(), before.size());
    EXPECT_FALSE(directory_exists(kept));
    ASSERT_EQ(report.matrices.size(), expected_report.matrices.size());
    for (size_t i = 0; i < report.matrices.size(); ++i) {
      EXPECT_EQ(report.matrices[i].name, expected_report.matrices[i].name);
      EXPECT_EQ(report.matrices[i].relative_error, expected_report.matrices[i].relative_error);
      EXPECT_EQ(report.matrices[i].predicted_loss, expected_report.matrices[i].predicted_loss);
    }
  }
}

TEST_F(KeptRunTest, AnotherRunStartsOver) {
  QuantizeOptions cut = options("out");
  std::atomic<bool> stop = false;
  cut.cancel = &stop;
  cut.on_progress = [&](const char* stage, double fraction) {
    stop = std::string_view(stage) == "quantizing" && fraction > 0.3;
  };
  expect_error(ErrorCode::kCancelled, {}, [&] { quantize_model(cut); });
  const auto before = parts(folder / ".out.unfinished");
  QuantizeOptions other = options("out");
  other.params.bits = 4;
  other.on_progress = [&](const char* stage, double fraction) {
    if (std::string_view(stage) != "calibrating" || fraction > 0) return;
    EXPECT_THAT(parts(folder / ".out.unfinished"), testing::SizeIs(1));  // The new identity.
  };
  quantize_model(other);
  EXPECT_GT(before.size(), 1U);
  const auto got = contents(folder / "out");
  std::filesystem::remove_all(folder / "out");
  other.on_progress = {};
  quantize_model(other);
  EXPECT_EQ(contents(folder / "out"), got);
}

TEST_F(KeptRunTest, EverythingThatChangesTheResultIsInTheIdentity) {
  const QuantizeOptions usual = options("out");
  const std::string identity = run_identity(usual);
  EXPECT_EQ(run_identity(options("other")), identity);
  const std::function<void(QuantizeOptions&)> changes[] = {
      [](QuantizeOptions& o) { o.params.bits = 4; },
      [](QuantizeOptions& o) { o.params.group_size = 64; },
      [](QuantizeOptions& o) { o.params.mode = QuantMode::kMxfp4; },
      [](QuantizeOptions& o) { o.format = ModelFormat::kGguf; },
      [](QuantizeOptions& o) { o.block_type = DType::kQ6_K; },
      [](QuantizeOptions& o) { o.recipe = find_recipe("mixed_3_6"); },
      [](QuantizeOptions& o) { o.target_bpw = 4.5; },
      [](QuantizeOptions& o) { o.target_group = 64; },
      [](QuantizeOptions& o) { o.seed = 1; },
      [](QuantizeOptions& o) { o.overrides.push_back(parse_override("*q_proj=8:32", ModelFormat::kMlx, 64)); },
      [](QuantizeOptions& o) { o.overrides.push_back(parse_override("*q_proj=float", ModelFormat::kMlx, 64)); },
      [](QuantizeOptions& o) { o.method = QuantMethod::kFit; },
      [](QuantizeOptions& o) { o.calibration.clear(); },
      [](QuantizeOptions& o) { o.calibration_tokens = 255; },
      [](QuantizeOptions& o) { o.program = "another"; },
      [](QuantizeOptions& o) { o.source = MOBILELLM_SOURCE_DIR "/tests/golden/models/r1"; },
  };
  std::vector<std::string> identities = {identity};
  for (const auto& change : changes) {
    QuantizeOptions changed = usual;
    change(changed);
    identities.push_back(run_identity(changed));
    EXPECT_EQ(std::count(identities.begin(), identities.end(), identities.back()), 1) << identities.size();
  }
  QuantizeOptions threads = usual;
  threads.n_threads = 2;
  EXPECT_EQ(run_identity(threads), identity);
  // The calibration text counts by its bytes, the model's files by their size and time.
  const std::string text = read_file(usual.calibration.front(), size_t{1} << 20);
  folder.write("text.txt", "X" + text.substr(1));
  EXPECT_NE(run_identity(usual), identity);
  folder.write("text.txt", text);
  EXPECT_EQ(run_identity(usual), identity);
  QuantizeOptions copied = usual;
  copied.source = folder / "model";
  std::filesystem::copy(kModel, copied.source);
  const std::string before = run_identity(copied);
  std::filesystem::last_write_time(copied.source + "/model.safetensors",
                                   std::filesystem::file_time_type::clock::now() + std::chrono::seconds(5));
  EXPECT_NE(run_identity(copied), before);
}

TEST_F(KeptRunTest, WherePartsCannotBeKeptTheRunGoesOn) {
  const QuantizeReport expected_report = quantize_model(options("whole"));
  EXPECT_THAT(expected_report.conversion.notes, testing::IsEmpty());
  const auto expected = contents(folder / "whole");
  const std::string kept = folder / ".out.unfinished";
  const std::string middle = expected_report.matrices[9].name;
  // In the way from the start, or of one part in the middle.
  for (const bool is_first : {true, false}) {
    QuantizeOptions run = options("out");
    if (is_first) folder.write(".out.unfinished", "");
    run.on_progress = [&](const char* stage, double /*fraction*/) {
      if (is_first || std::string_view(stage) != "calibrating") return;
      std::filesystem::create_directories(kept + "/" + middle + ".part.new/x");
    };
    const QuantizeReport report = quantize_model(run);
    ASSERT_EQ(report.conversion.notes.size(), 1U);
    EXPECT_THAT(report.conversion.notes[0], testing::HasSubstr(is_first ? kept : middle));
    EXPECT_EQ(contents(run.target), expected);
    EXPECT_FALSE(directory_exists(kept));
    std::filesystem::remove_all(run.target);
    std::filesystem::remove_all(kept);
  }
  const PartStore other(kept, "another run");
  expect_error(ErrorCode::kInvalidArgument, {"another run uses it"}, [&] { quantize_model(options("out")); });
}

TEST_F(KeptRunTest, ErrorsLeaveWhatIsDone) {
  quantize_model(options("whole"));
  const auto expected = contents(folder / "whole");
  QuantizeOptions run = options("out");
  run.source = folder / "model";
  std::filesystem::copy(kModel, run.source);
  const QuantizeOptions again = run;
  // Another program takes the target's name.
  run.on_progress = [&](const char* stage, double fraction) {
    if (std::string_view(stage) == "quantizing" && fraction > 0.5) folder.write("out", "");
  };
  expect_error(ErrorCode::kInvalidArgument, {"exists already", ".out.unfinished"}, [&] { quantize_model(run); });
  std::filesystem::remove(run.target);
  const auto before = parts(folder / ".out.unfinished");
  EXPECT_GT(before.size(), 10U);
  // The source is away.
  std::filesystem::rename(run.source, folder / "away");
  expect_error(ErrorCode::kNotFound, {"model"}, [&] { quantize_model(again); });
  EXPECT_EQ(parts(folder / ".out.unfinished"), before);
  std::filesystem::rename(folder / "away", run.source);
  quantize_model(again);
  EXPECT_EQ(contents(run.target).at("model.safetensors"), expected.at("model.safetensors"));
  EXPECT_FALSE(directory_exists(folder / ".out.unfinished"));
}

TEST_F(KeptRunTest, PartsThatCannotBeReadAreMadeAgain) {
  KeptRun kept(options("out"));
  EncodedMatrix matrix(DType::kF32, 2, 4, "m");
  std::fill(matrix.data().begin(), matrix.data().end(), std::byte{7});
  EncodedMatrix out(DType::kF32, 2, 4, "m");
  QuantizedMatrix report{"m", "F32", 8, 0.25, -0.5, 0.125};
  kept.keep(report, matrix);
  const std::optional<QuantizedMatrix> restored = kept.restore("m", "F32", out);
  ASSERT_TRUE(restored.has_value());
  EXPECT_EQ(restored->relative_error, 0.25);
  EXPECT_TRUE(std::ranges::equal(out.data(), matrix.data()));
  EXPECT_FALSE(kept.restore("m", "F16", out).has_value());
  StoragePlan plan;
  plan[{TensorRole::kQProj, 0}].predicted_loss = 1.0;
  kept.keep_plan(plan);
  EXPECT_TRUE(kept.plan().has_value());
  // JSON has no infinities.
  report.relative_error = std::numeric_limits<double>::infinity();
  kept.keep(report, matrix);
  EXPECT_FALSE(kept.restore("m", "F32", out).has_value());
  plan[{TensorRole::kQProj, 0}].predicted_loss = std::numeric_limits<double>::infinity();
  kept.keep_plan(plan);
  EXPECT_FALSE(kept.plan().has_value());
  // Training of other settings, or of a student of another size.
  std::vector<std::byte> state(6, std::byte{3});
  std::vector<std::byte> filled(6);
  kept.keep_training("a", {0.5, 0.25, 4}, std::vector{std::span(state)});
  EXPECT_FALSE(kept.restore_training("b", std::vector{std::span(filled)}).has_value());
  EXPECT_FALSE(kept.restore_training("a", std::vector{std::span(filled).first(5)}).has_value());
  EXPECT_EQ(filled, std::vector<std::byte>(6));
  const std::optional<DistillReport> training = kept.restore_training("a", std::vector{std::span(filled)});
  ASSERT_TRUE(training.has_value());
  EXPECT_EQ(training->after, 0.25);
  EXPECT_EQ(training->best_step, 4);
  EXPECT_EQ(filled, state);
  EXPECT_EQ(kept.note(), "");
  // No disk has room for this target and parts.
  kept.expect_target(1e18);
  kept.keep(report, matrix);
  EXPECT_THAT(kept.note(), testing::HasSubstr("MB left"));
  EXPECT_EQ(kept.hint(), "");
  EXPECT_FALSE(directory_exists(folder / ".out.unfinished"));
}

TEST_F(KeptRunTest, AnExistingTargetIsRefusedBeforeAnyWork) {
  QuantizeOptions used = options("text.txt");
  used.on_progress = [](const char*, double) { ADD_FAILURE() << "work began"; };
  expect_error(ErrorCode::kInvalidArgument, {"exists already"}, [&] { quantize_model(used); });
}

}  // namespace
}  // namespace mobilellm
