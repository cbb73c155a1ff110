// Names of the storage types of keys and values.
#include "cli/kv_flag.h"

#include <fmt/core.h>

namespace mobilellm::cli {

void declare_kv(Args& args, std::string& target) {
  args.text("--kv", "TYPE", target, "keys and values as f32, f16, i16 or q8 (default: i16)");
}

KvDtype parse_kv(const Args& args, const std::string& name, const std::string& flag) {
  if (name.empty()) return KvDtype::kAuto;
  if (name == "f32") return KvDtype::kF32;
  if (name == "f16") return KvDtype::kF16;
  if (name == "i16") return KvDtype::kI16;
  if (name == "q8") return KvDtype::kQ8;
  args.fail_usage(fmt::format("{}: got {}, expected f32, f16, i16 or q8", flag, name));
}

}  // namespace mobilellm::cli
