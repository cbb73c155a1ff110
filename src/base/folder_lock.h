/// A lock on a folder that ends with its process, so that what is not locked has no owner.
#pragma once

#include <string>

namespace mobilellm {

/// Descriptor of the folder (not a link to one) that holds its lock until it is closed; -1 with errno EWOULDBLOCK when
/// another descriptor has the lock, and with another errno when the folder cannot be opened or locked.
int lock_folder(const std::string& path);

}  // namespace mobilellm
