/// The flag --kv: how keys and values are stored.
#pragma once

#include <string>

#include "backend/backend.h"
#include "cli/args.h"

namespace mobilellm::cli {

void declare_kv(Args& args, std::string& target);
/// "" is the default; throws kInvalidArgument for unknown names, telling the flag.
KvDtype parse_kv(const Args& args, const std::string& name, const std::string& flag = "--kv");

}  // namespace mobilellm::cli
