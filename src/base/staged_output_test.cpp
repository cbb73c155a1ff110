// Tests of outputs that appear complete or not at all.
#include "base/staged_output.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>
#include <filesystem>

#include "base/files.h"
#include "base/output_file.h"
#include "tests/support/scratch_folder.h"

namespace mobilellm {
namespace {

using Kind = StagedOutput::Kind;

size_t count_entries(const std::string& path) {
  size_t n = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(path)) ++n;
  return n;
}

TEST(StagedOutput, AFolderAppearsAtCommit) {
  const ScratchFolder scratch;
  StagedOutput output(scratch / "out", Kind::kFolder);
  write_file(output.file("a.txt"), "one");
  EXPECT_FALSE(directory_exists(scratch / "out"));
  output.commit();
  EXPECT_EQ(read_file(scratch / "out/a.txt", 100), "one");
  EXPECT_EQ(count_entries(scratch.path()), 1u);
}

TEST(StagedOutput, AFileAppearsAtCommit) {
  const ScratchFolder scratch;
  {
    StagedOutput output(scratch / "model.gguf", Kind::kFile);
    write_file(output.file("model.gguf"), "two");
    EXPECT_FALSE(file_exists(scratch / "model.gguf"));
    output.commit();
  }
  EXPECT_EQ(read_file(scratch / "model.gguf", 100), "two");
  EXPECT_EQ(count_entries(scratch.path()), 1u);
}

TEST(StagedOutput, LeavesNothingWithoutCommit) {
  const ScratchFolder scratch;
  {
    StagedOutput output(scratch / "out", Kind::kFolder);
    write_file(output.file("a.txt"), "one");
  }
  EXPECT_EQ(count_entries(scratch.path()), 0u);
}

TEST(StagedOutput, NeverReplaces) {
  const ScratchFolder scratch;
  scratch.write("taken", "old");
  expect_error(ErrorCode::kInvalidArgument, {"taken", "exists already"},
               [&] { StagedOutput(scratch / "taken", Kind::kFolder); });
  expect_error(ErrorCode::kInvalidArgument, {"taken", "exists already"},
               [&] { StagedOutput(scratch / "taken/", Kind::kFile); });
  std::filesystem::create_symlink("nowhere", scratch / "link");
  expect_error(ErrorCode::kInvalidArgument, {"link", "exists already"},
               [&] { StagedOutput(scratch / "link", Kind::kFile); });

  // What appears while the work goes on stays too.
  StagedOutput file(scratch / "late", Kind::kFile);
  write_file(file.file("late"), "new");
  scratch.write("late", "old");
  expect_error(ErrorCode::kInvalidArgument, {"late", "exists already"}, [&] { file.commit(); });
  EXPECT_EQ(read_file(scratch / "late", 100), "old");
  StagedOutput folder(scratch / "empty", Kind::kFolder);
  std::filesystem::create_directory(scratch / "empty");
  expect_error(ErrorCode::kInvalidArgument, {"empty", "exists already"}, [&] { folder.commit(); });
}

TEST(StagedOutput, RefusesImpossibleTargets) {
  const ScratchFolder scratch;
  expect_error(ErrorCode::kNotFound, {"absent", "create it first"},
               [&] { StagedOutput(scratch / "absent/out", Kind::kFolder); });
  expect_error(ErrorCode::kInvalidArgument, {"name of an output"}, [&] { StagedOutput("/", Kind::kFolder); });
  expect_error(ErrorCode::kInvalidArgument, {"name of an output"}, [&] { StagedOutput("..", Kind::kFolder); });
  EXPECT_EQ(count_entries(scratch.path()), 0u);
}

TEST(StagedOutput, NamesStayInside) {
  const ScratchFolder scratch;
  const StagedOutput output(scratch / "out", Kind::kFolder);
  for (const std::string name : {"", ".", "..", "../x", "/etc/passwd", "a/b", "a\\b", "a\nb"}) {
    expect_error(ErrorCode::kCorruptData, {"plain file name"}, [&] { (void)output.file(name); });
  }
}

TEST(StagedOutput, TellsAboutMissingSpaceEarly) {
  const ScratchFolder scratch;
  const StagedOutput output(scratch / "out", Kind::kFolder);
  output.require_space(1);
  expect_error(ErrorCode::kIo, {"out", "MB left"}, [&] { output.require_space(size_t{1} << 60); });
}

TEST(OutputFile, TellsWhenTheSystemTakesNoMore) {
  const ScratchFolder scratch;
  // A limit on the size of files stands for a full disk: write() fails in the same way.
  rlimit old_limit{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &old_limit), 0);
  auto* const old_handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit limit = {1 << 20, old_limit.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &limit), 0);
  {
    StagedOutput output(scratch / "out", Kind::kFolder);
    OutputFile file(output.file("big"));
    const std::string text(300'000, 'x');
    expect_error(ErrorCode::kIo, {"cannot write", "big"}, [&] {
      for (int i = 0; i < 10; ++i) file.write(text);
      file.close();
    });
  }
  ::setrlimit(RLIMIT_FSIZE, &old_limit);
  std::signal(SIGXFSZ, old_handler);
  EXPECT_EQ(count_entries(scratch.path()), 0u);
}

TEST(OutputFile, PadsAndCounts) {
  const ScratchFolder scratch;
  OutputFile file(scratch / "x");
  file.write("abc");
  file.pad_to(128);
  EXPECT_EQ(file.position(), 128u);
  file.pad_to(128);
  file.write("d");
  file.close();
  const std::string text = read_file(scratch / "x", 1000);
  EXPECT_EQ(text, "abc" + std::string(125, '\0') + "d");
  expect_error(ErrorCode::kIo, {"cannot create"}, [&] { OutputFile(scratch / "x"); });
}

TEST(StagedOutput, RemovesWhatKilledProcessesLeft) {
  const ScratchFolder folder;
  const auto age = [](const std::string& path) {
    std::filesystem::last_write_time(path, std::filesystem::file_time_type::clock::now() - std::chrono::hours(1));
  };
  for (const char* name : {".out.partial-1-0", ".out.partial-2-0", ".outer.partial-1-0"}) {
    std::filesystem::create_directory(folder / name);
    std::ofstream(folder / name + "/file") << "x";
  }
  age(folder / ".out.partial-1-0");
  age(folder / ".outer.partial-1-0");
  const StagedOutput first(folder / "out", StagedOutput::Kind::kFolder);
  const std::string own = parent_directory(first.file("file"));
  age(own);
  const StagedOutput second(folder / "out", StagedOutput::Kind::kFolder);
  EXPECT_FALSE(directory_exists(folder / ".out.partial-1-0"));
  EXPECT_TRUE(directory_exists(folder / ".out.partial-2-0"));    // Just made: its owner may be about to lock it.
  EXPECT_TRUE(directory_exists(folder / ".outer.partial-1-0"));  // Of another name.
  EXPECT_TRUE(directory_exists(own));                            // Locked.
}

}  // namespace
}  // namespace mobilellm
