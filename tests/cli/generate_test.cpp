// mobilellm generate on the tiny chat model, against the reference's greedy tokens.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <sstream>

#include "base/json.h"
#include "tests/cli/program.h"

namespace mobilellm {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

const std::string kChat = golden("e2e/r1_chat");

std::vector<std::string> with_model(std::vector<std::string> rest) {
  std::vector<std::string> words = {"generate", "--model-path", kChat};
  words.insert(words.end(), rest.begin(), rest.end());
  return words;
}

ProgramResult generate(std::vector<std::string> rest, const ProgramOptions& options = {}) {
  return run_program(with_model(std::move(rest)), options);
}

Json generate_json(std::vector<std::string> rest) {
  rest.emplace_back("--json");
  const ProgramResult result = generate(std::move(rest));
  EXPECT_EQ(result.status, 0) << result.err;
  return Json::parse(result.out, "output");
}

// The chats of the golden file that a prompt and a system text can express.
struct SimpleChat {
  std::string system, prompt;
  Json golden;
};

std::vector<SimpleChat> simple_chats() {
  std::vector<SimpleChat> chats;
  std::istringstream in(read_text(kChat + "/golden_chat.jsonl"));
  for (std::string line; std::getline(in, line);) {
    SimpleChat chat;
    chat.golden = Json::parse(line, "golden_chat.jsonl");
    const Json::Array& messages = chat.golden.find("messages")->as_array();
    const bool has_system = messages.front().find("role")->as_string() == "system";
    if (messages.size() != (has_system ? 2u : 1u)) continue;
    if (has_system) chat.system = messages.front().find("content")->as_string();
    chat.prompt = messages.back().find("content")->as_string();
    chats.push_back(std::move(chat));
  }
  return chats;
}

TEST(Generate, GreedyTokensAreThoseOfTheReference) {
  const std::vector<SimpleChat> chats = simple_chats();
  ASSERT_GE(chats.size(), 2u);
  for (const SimpleChat& chat : chats) {
    std::vector<std::string> words = {"--prompt", chat.prompt, "--temperature", "0", "--max-tokens", "48"};
    if (!chat.system.empty()) words.insert(words.end(), {"--system", chat.system});
    const Json result = generate_json(words);
    EXPECT_EQ(result.find("prompt")->as_string(), chat.golden.find("prompt_text")->as_string());
    EXPECT_EQ(*result.find("prompt_ids"), *chat.golden.find("prompt_ids"));
    EXPECT_EQ(*result.find("output_ids"), *chat.golden.find("output_ids"));
    EXPECT_EQ(result.find("finish_reason")->as_string(), chat.golden.find("finish_reason")->as_string());
    EXPECT_EQ(result.find("text")->as_string(), chat.golden.find("output_text")->as_string());
  }
}

TEST(Generate, TextAloneOnStandardOutputAndOneSummaryLine) {
  const SimpleChat chat = simple_chats().front();
  std::vector<std::string> words = {"--prompt=" + chat.prompt, "--temperature=0", "--max-tokens=48"};
  if (!chat.system.empty()) words.push_back("--system=" + chat.system);
  const ProgramResult result = generate(words);
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_EQ(result.out, chat.golden.find("output_text")->as_string() + "\n");
  EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
  EXPECT_THAT(result.err, AllOf(HasSubstr("tokens/s"), HasSubstr("first token"), HasSubstr("memory"),
                                HasSubstr("stop: length (max_tokens)")));
}

TEST(Generate, PromptFromStandardInputAndFile) {
  const ScratchDir folder;
  folder.write("question.txt", "Hello\n");
  const std::vector<std::string> rest = {"--temperature", "0", "--max-tokens", "8"};
  const auto with = [&rest](std::vector<std::string> words) {
    words.insert(words.end(), rest.begin(), rest.end());
    return words;
  };
  const std::string expected = generate(with({"--prompt", "Hello"})).out;
  EXPECT_EQ(generate(with({"--prompt", "-"}), {.input = "Hello\n"}).out, expected);
  EXPECT_EQ(generate(with({"--prompt-file", folder.path("question.txt")})).out, expected);
  const ProgramResult absent = generate(with({"--prompt-file", folder.path("absent")}));
  EXPECT_EQ(absent.status, 1);
  EXPECT_THAT(absent.err, HasSubstr(folder.path("absent")));
}

TEST(Generate, AliasIsTheSameCommand) {
  ProgramOptions options;
  options.program = std::string(MOBILELLM_PROGRAM) + "-infer";
  const ProgramResult result =
      run_program({"--model-path", kChat, "--prompt", "Hello", "--temperature", "0", "--max-tokens", "8"}, options);
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_EQ(result.out, generate({"--prompt", "Hello", "--temperature", "0", "--max-tokens", "8"}).out);
}

TEST(Generate, SeedDecidesAndThreadsDoNot) {
  const std::vector<std::string> base = {"--prompt", "Hello", "--temperature", "1.5", "--max-tokens", "24"};
  const auto ids = [&base](std::vector<std::string> more) {
    more.insert(more.begin(), base.begin(), base.end());
    return generate_json(more).find("output_ids")->dump();
  };
  const std::string first = ids({"--seed", "7", "--threads", "1"});
  EXPECT_EQ(ids({"--seed", "7", "--threads", "3"}), first);
  EXPECT_NE(ids({"--seed", "8"}), first);
  // Without a seed it is another each time, and the JSON says which.
  const Json unseeded = generate_json(base);
  const int64_t seed = unseeded.find("sampling")->find("seed")->as_int();
  EXPECT_EQ(ids({"--seed", std::to_string(seed)}), unseeded.find("output_ids")->dump());
}

TEST(Generate, DefaultsComeFromGenerationConfigThenTheOriginal) {
  const Json with_config = generate_json({"--prompt", "x", "--max-tokens", "1"});
  EXPECT_EQ(with_config.find("sampling")->find("temperature")->as_double(), 0.6);
  const ScratchDir folder;
  folder.copy_model("e2e/r1_chat");
  folder.write("generation_config.json", "{}");
  const ProgramResult plain =
      run_program({"generate", "--model-path", folder.path(), "--prompt", "x", "--max-tokens", "1", "--json"});
  const Json sampling = *Json::parse(plain.out, "output").find("sampling");
  EXPECT_EQ(sampling.find("temperature")->as_double(), 0.1);
  EXPECT_EQ(sampling.find("top_p")->as_double(), 0.9);
}

TEST(Generate, StopStringIsNotShown) {
  const std::string full = generate({"--prompt", "Explain recursion.", "--temperature", "0"}).out;
  ASSERT_GT(full.size(), 12u);
  std::string stop;
  for (size_t i = 6; i + 3 < full.size() && stop.empty(); ++i) {
    const std::string part = full.substr(i, 3);
    if (std::all_of(part.begin(), part.end(), [](char c) { return c > ' ' && c < 127; })) stop = part;
  }
  if (stop.empty()) GTEST_SKIP() << "the model's output has no run of three ASCII characters";
  const ProgramResult result = generate({"--prompt", "Explain recursion.", "--temperature", "0", "--stop", stop});
  EXPECT_EQ(result.out, full.substr(0, full.find(stop)) + "\n");
  EXPECT_THAT(result.err, HasSubstr("stop: stop (stop_string)"));
}

TEST(Generate, ExtractBoxedPrintsTheBoxOrExitsWithThree) {
  const ProgramResult none = generate({"--prompt", "x", "--temperature", "0", "--max-tokens", "4", "--extract-boxed"});
  EXPECT_EQ(none.status, 3);
  EXPECT_EQ(none.out, "");
  EXPECT_THAT(none.err, HasSubstr("mobilellm: [generate] --extract-boxed: no complete \\boxed{...}"));
  // A random model closes a box that was opened for it sooner or later; some seed does so early.
  for (int seed = 1; seed <= 30; ++seed) {
    const ProgramResult opened =
        generate({"--prompt", "x", "--temperature", "2", "--top-p", "1", "--seed", std::to_string(seed), "--max-tokens",
                  "200", "--loop-guard", "off", "--ignore-eos", "--prefill-response", "\\boxed{17", "--stop-at-boxed",
                  "--extract-boxed"});
    if (opened.status == 3) continue;
    EXPECT_EQ(opened.status, 0) << opened.err;
    EXPECT_THAT(opened.out, StartsWith("17"));
    EXPECT_THAT(opened.err, HasSubstr("stop: stop (boxed)"));
    return;
  }
  FAIL() << "no seed closed the box";
}

TEST(Generate, LogprobsVerboseAndPrintPrompt) {
  const Json result = generate_json({"--prompt", "x", "--temperature", "0", "--max-tokens", "3", "--logprobs", "2"});
  const Json::Array& logprobs = result.find("logprobs")->as_array();
  ASSERT_EQ(logprobs.size(), result.find("output_ids")->as_array().size());
  for (const Json& entry : logprobs) {
    EXPECT_LE(entry.find("logprob")->as_double(), 0);
    ASSERT_EQ(entry.find("top")->as_array().size(), 2u);
    EXPECT_EQ(*entry.find("top")->as_array()[0].find("id"), *entry.find("id"));  // Greedy takes the likeliest.
  }
  const ProgramResult verbose =
      generate({"--prompt", "Hello you", "--temperature", "0", "--max-tokens", "1", "--verbose", "--print-prompt"});
  EXPECT_THAT(verbose.err, AllOf(HasSubstr("Loading model and tokenizer..."), HasSubstr("Chat template found: True"),
                                 HasSubstr("Prompt: Hello you"), HasSubstr("Starting generation..."),
                                 HasSubstr("<|start_header_id|>user<|end_header_id|>")));
}

TEST(Generate, RawPromptAndFinalOnly) {
  const Json raw = generate_json({"--prompt", "Hello", "--max-tokens", "1", "--disable-chat-template"});
  const std::string ids = run_program({"tokenize", "--model-path", kChat, "--special", "--json", "Hello"}).out;
  EXPECT_EQ(*raw.find("prompt_ids"), *Json::parse(ids, "output").find("ids"));
  const Json final_only = generate_json({"--prompt", "Hello", "--max-tokens", "1", "--final-only"});
  EXPECT_THAT(final_only.find("prompt")->as_string(),
              HasSubstr("Do not reveal your reasoning. Respond with only the final answer enclosed in \\boxed{...}."));
  const Json own = generate_json({"--prompt", "Hello", "--max-tokens", "1", "--final-only", "--system", "Be brief."});
  EXPECT_THAT(own.find("prompt")->as_string(), AllOf(HasSubstr("Be brief."), Not(HasSubstr("reveal"))));
}

TEST(Generate, FlagsThatNeedTheTemplateAreWarnedAboutWithoutIt) {
  const std::vector<std::string> base = {"--prompt", "Hello", "--max-tokens", "1", "--system", "Be brief."};
  EXPECT_THAT(generate(base).err, Not(HasSubstr("warning")));
  std::vector<std::string> raw = base;
  raw.insert(raw.end(), {"--final-only", "--disable-chat-template"});
  const ProgramResult result = generate(raw);
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_THAT(result.err, StartsWith("mobilellm: warning: --system and --final-only have no effect"));
}

TEST(Generate, ContextBoundsPromptAndOutput) {
  const ProgramResult too_long = generate({"--prompt", std::string(2000, 'a') + " b c d e f g", "--ctx", "16"});
  EXPECT_EQ(too_long.status, 1);
  EXPECT_EQ(too_long.out, "");
  EXPECT_THAT(too_long.err, HasSubstr("16"));
  const Json full = generate_json({"--prompt", "Hello", "--temperature", "0", "--max-tokens", "-1", "--ctx", "40",
                                   "--ignore-eos", "--loop-guard=off"});
  EXPECT_EQ(full.find("finish_reason")->as_string(), "length");
  EXPECT_LE(
      full.find("usage")->find("prompt_tokens")->as_int() + full.find("usage")->find("completion_tokens")->as_int(),
      41);
}

TEST(Generate, BrokenFilesAreNamedInOneLine) {
  struct Case {
    const char* file;
    std::string content;
    const char* message;
  };
  const std::string weights = read_text(golden("e2e/r1_chat/model.safetensors"));
  const Case cases[] = {
      {"model.safetensors", "", "model.safetensors"},
      {"model.safetensors", weights.substr(0, 1000), "model.safetensors"},
      {"model.safetensors", std::string(8, '\xff') + weights.substr(8), "model.safetensors"},
      {"config.json", "{\"model_type\": \"llama4_text\"", "config.json"},
      {"config.json", "{\"model_type\": \"new_model\"}", "new_model"},
      {"config.json", "[]", "config.json"},
      {"tokenizer.json", "{\"model\": {\"type\": \"Unigram\"}}", "Unigram"},
      {"tokenizer.json", std::string(1000, '['), "tokenizer.json"},
      {"chat_template.jinja", "{% for m in messages %}", "chat_template.jinja"},
      {"generation_config.json", "{\"temperature\": \"warm\"}", "temperature"},
  };
  for (const Case& c : cases) {
    const ScratchDir folder;
    folder.copy_model("e2e/r1_chat");
    folder.write(c.file, c.content);
    const ProgramResult result = run_program({"generate", "--model-path", folder.path(), "--prompt", "Hello"});
    EXPECT_EQ(result.status, 1) << c.file << " " << c.message;
    EXPECT_EQ(result.out, "");
    EXPECT_THAT(result.err, AllOf(StartsWith("mobilellm: ["), HasSubstr(c.message)));
    EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
  }
}

}  // namespace
}  // namespace mobilellm
