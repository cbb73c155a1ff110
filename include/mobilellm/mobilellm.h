/// The whole C++ API: small reasoning models on the CPU, from a folder or a .gguf file.
///
///     auto model = mobilellm::Model::load("models/MobileLLM-R1-140M");
///     mobilellm::GenerationRequest request;
///     request.prompt = "What is 17 * 23?";
///     std::string answer = model.generate(request).answer;
///
/// Every function may throw mobilellm::Error; its code says which kind of trouble it is and its text names the file,
/// key or value. The library never prints and never ends the process. Texts are UTF-8; ill-formed bytes in a prompt
/// count as U+FFFD. Token ids are int32_t in [0, vocab_size).
/// Structures of options are made to be filled by name: `{.prompt = "Hello", .max_tokens = 10}`.
/// Before version 1.0 a minor version may change this API.
#pragma once

#include "mobilellm/chat.h"
#include "mobilellm/error.h"
#include "mobilellm/generation.h"
#include "mobilellm/log.h"
#include "mobilellm/model.h"
#include "mobilellm/tokenizer.h"
#include "mobilellm/version.h"
