// The commit comes from a header that every build renews (cmake/commit.cmake).
#include "cli/build_info.h"

#include <fmt/core.h>

#include <filesystem>

#include "cli/commit.h"

namespace mobilellm::cli {

std::string build_commit() { return MOBILELLM_COMMIT; }

std::string build_compiler() {
#if defined(__clang__)
  return fmt::format("clang {}.{}.{}", __clang_major__, __clang_minor__, __clang_patchlevel__);
#else
  return fmt::format("gcc {}.{}.{}", __GNUC__, __GNUC_MINOR__, __GNUC_PATCHLEVEL__);
#endif
}

std::string build_text() {
  const std::string commit = build_commit();
  std::string text = fmt::format("{} ({}{}{}", MOBILELLM_VERSION, commit, commit.empty() ? "" : ", ", build_compiler());
#if !defined(NDEBUG)
  text += ", debug build: slow";
#endif
  return text + ")";
}

std::string build_identity() {
  std::error_code error;
  const auto modified = std::filesystem::last_write_time("/proc/self/exe", error);
  return fmt::format("{} {}", build_text(), error ? 0 : modified.time_since_epoch().count());
}

}  // namespace mobilellm::cli
