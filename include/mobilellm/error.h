/// The one exception type that the library throws for anything a user, a file or a request can cause.
#pragma once

#include <stdexcept>
#include <string>

#include "mobilellm/export.h"

namespace mobilellm {

/// What went wrong, in classes a caller can act on. base/error.cpp maps each to an exit status and a C code.
enum class ErrorCode {
  kInvalidArgument = 1,  ///< A value passed by the caller is out of range or malformed.
  kNotFound = 2,         ///< A file, tensor, key or name does not exist.
  kIo = 3,               ///< The operating system refused to read or write.
  kCorruptData = 4,      ///< A file breaks the rules of its format.
  kUnsupported = 5,      ///< Valid input that this program cannot handle.
  kResourceLimit = 6,    ///< A limit (size, depth, steps, memory) would be exceeded.
  kContextExceeded = 7,  ///< The prompt does not fit the context.
  kTemplate = 8,         ///< A chat template failed or refused its input.
  kCancelled = 9,        ///< The caller cancelled the work.
  kInternal = 10,        ///< A defect of this library.
};

/// Message form: "[component] what happened: got X, expected Y (file, tensor, key); what to do next".
class MOBILELLM_API Error : public std::runtime_error {
 public:
  Error(ErrorCode code, const std::string& message) : std::runtime_error(message), code_(code) {}
  ErrorCode code() const noexcept { return code_; }

 private:
  ErrorCode code_;
};

}  // namespace mobilellm
