// A program of someone else: only the public headers, one real call.
#include <mobilellm/error.h>

#include <cstdio>

int main() {
  try {
    throw mobilellm::Error(mobilellm::ErrorCode::kNotFound, "consumer works");
  } catch (const mobilellm::Error& error) {
    std::puts(error.what());
  }
  return 0;
}
