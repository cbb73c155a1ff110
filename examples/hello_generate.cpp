// Answers one prompt and streams the text: hello_generate MODEL [PROMPT]
#include <mobilellm/mobilellm.h>

#include <iostream>

int main(int argc, char** argv) {
  if (argc < 2) {
    std::cerr << "usage: hello_generate MODEL [PROMPT]\n";
    return 2;
  }
  try {
    auto model = mobilellm::Model::load(argv[1]);
    mobilellm::GenerationRequest request;
    request.prompt = argc > 2 ? argv[2] : "What is 17 * 23?";
    request.sampling = model.recommended_sampling();
    request.max_tokens = 64;

    const auto result = model.generate(request, [](const mobilellm::GenerationPiece& piece) {
      std::cout << piece.text << std::flush;
      return true;  // Go on; false would cancel.
    });

    std::cout << '\n';
    std::cerr << result.prompt_tokens << " tokens in, " << result.completion_tokens << " out, ended by "
              << to_string(result.cause) << '\n';
    return 0;
  } catch (const mobilellm::Error& error) {
    std::cerr << "hello_generate: " << error.what() << '\n';
    return 1;
  }
}
