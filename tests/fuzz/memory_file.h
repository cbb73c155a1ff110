/// A file in a folder of this process for readers that take a path; on Linux in memory.
#pragma once

#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>

namespace mobilellm {

class MemoryFile {
 public:
  explicit MemoryFile(const std::string& name) {
    const std::filesystem::path memory = "/dev/shm";
    const std::filesystem::path base =
        std::filesystem::is_directory(memory) ? memory : std::filesystem::temp_directory_path();
    const std::filesystem::path folder = base / ("mobilellm-fuzz-" + std::to_string(::getpid()));
    std::filesystem::create_directories(folder);
    path_ = (folder / name).string();
  }
  ~MemoryFile() {
    std::error_code ignored;
    std::filesystem::remove(path_, ignored);
    std::filesystem::remove(std::filesystem::path(path_).parent_path(), ignored);
  }
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;

  const std::string& path() const { return path_; }
  void write(const uint8_t* data, size_t size) const {
    std::FILE* stream = std::fopen(path_.c_str(), "wb");
    if (stream == nullptr || std::fwrite(data, 1, size, stream) != size || std::fclose(stream) != 0) std::abort();
  }

 private:
  std::string path_;
};

}  // namespace mobilellm
