// A conversation on the terminal, one line a turn, until the input ends: hello_chat MODEL
#include <mobilellm/mobilellm.h>

#include <atomic>
#include <csignal>
#include <iostream>
#include <string>

namespace {

std::atomic<bool> is_interrupted = false;
static_assert(std::atomic<bool>::is_always_lock_free, "a signal handler may only touch lock-free atomics");

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "usage: hello_chat MODEL\n";
    return 2;
  }
  try {
    auto model = mobilellm::Model::load(argv[1]);
    // Ctrl-C ends an answer, not the program.
    std::signal(SIGINT, [](int) { is_interrupted = true; });

    mobilellm::GenerationRequest request;
    request.sampling = model.recommended_sampling();
    request.max_tokens = 128;
    request.cancel = &is_interrupted;

    std::string line;
    while (std::cerr << "> " << std::flush, std::getline(std::cin, line)) {
      if (line.empty()) continue;
      request.messages.push_back({"user", line});
      is_interrupted = false;
      const auto result = model.generate(request, [](const mobilellm::GenerationPiece& piece) {
        if (!piece.is_reasoning) std::cout << piece.text << std::flush;
        return true;
      });
      std::cout << '\n';
      // The history keeps answers without their reasoning, as chat templates expect.
      request.messages.push_back({"assistant", result.answer});
      ++request.sampling.seed;
    }
    std::cerr << '\n';
    return 0;
  } catch (const mobilellm::Error& error) {
    std::cerr << "hello_chat: " << error.what() << '\n';
    return 1;
  }
}
