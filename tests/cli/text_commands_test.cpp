// mobilellm tokenize and mobilellm template.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>

#include "base/json.h"
#include "tests/cli/program.h"

namespace mobilellm {
namespace {

using ::testing::HasSubstr;

const std::string kChat = golden("e2e/r1_chat");

std::vector<Json> json_lines(const std::string& text) {
  std::vector<Json> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) lines.push_back(Json::parse(line, "output"));
  return lines;
}

std::vector<Json> golden_chats() { return json_lines(read_text(kChat + "/golden_chat.jsonl")); }

TEST(Tokenize, LinesGiveGoldenIdsAndTextAgain) {
  std::string texts, id_lines;
  for (const Json& chat : golden_chats()) {
    texts += Json::object().set("text", *chat.find("prompt_text")).dump() + "\n";
    id_lines += Json::object().set("ids", *chat.find("prompt_ids")).dump() + "\n";
  }
  const ProgramResult encoded = run_program({"tokenize", "--model-path", kChat, "--jsonl"}, {.input = texts});
  EXPECT_EQ(encoded.status, 0) << encoded.err;
  const ProgramResult decoded =
      run_program({"tokenize", "--model-path", kChat, "--jsonl", "--decode"}, {.input = id_lines});
  EXPECT_EQ(decoded.status, 0) << decoded.err;
  const std::vector<Json> ids = json_lines(encoded.out);
  const std::vector<Json> text = json_lines(decoded.out);
  const std::vector<Json> chats = golden_chats();
  ASSERT_EQ(ids.size(), chats.size());
  ASSERT_EQ(text.size(), chats.size());
  for (size_t i = 0; i < chats.size(); ++i) {
    EXPECT_EQ(*ids[i].find("ids"), *chats[i].find("prompt_ids"));
    EXPECT_EQ(text[i].find("text")->as_string(), chats[i].find("prompt_text")->as_string());
  }
}

TEST(Tokenize, PlainTextAndSpecialTokens) {
  const ProgramResult plain = run_program({"tokenize", "--model-path", kChat, "Hello world"});
  EXPECT_EQ(plain.status, 0) << plain.err;
  const ProgramResult special = run_program({"tokenize", "--model-path", kChat, "--special", "Hello world"});
  EXPECT_EQ(special.out, "1000 " + plain.out);  // BOS in front.
  const ProgramResult back = run_program({"tokenize", "--model-path", kChat, "--decode", special.out});
  EXPECT_EQ(back.out, "<|begin_of_text|>Hello world\n");
  const ProgramResult skipped =
      run_program({"tokenize", "--model-path", kChat, "--decode", "--skip-special"}, {.input = special.out});
  EXPECT_EQ(skipped.out, "Hello world\n");
  const ProgramResult json = run_program({"tokenize", "--model-path", kChat, "--json"}, {.input = "Hello"});
  EXPECT_TRUE(Json::parse(json.out, "output").find("tokens")->is_array());
}

TEST(Tokenize, ABadLineIsAnsweredAndTheRestGoesOn) {
  const ProgramResult result = run_program({"tokenize", "--model-path", kChat, "--jsonl"},
                                           {.input = "{\"text\": \"a\"}\nnonsense\n{\"txt\": 1}\n\n{\"text\": \"b\"}"});
  EXPECT_EQ(result.status, 1);
  const std::vector<Json> lines = json_lines(result.out);
  ASSERT_EQ(lines.size(), 4u);
  EXPECT_NE(lines[0].find("ids"), nullptr);
  EXPECT_THAT(lines[1].find("error")->as_string(), HasSubstr("line 2 of standard input"));
  EXPECT_THAT(lines[2].find("error")->as_string(), HasSubstr("text"));
  EXPECT_NE(lines[3].find("ids"), nullptr);
  for (const char* ids : {"[99999999]", "[-1]", "[1.5]", "[\"a\"]", "7"}) {
    const ProgramResult decoded = run_program({"tokenize", "--model-path", kChat, "--jsonl", "--decode"},
                                              {.input = "{\"ids\": " + std::string(ids) + "}\n"});
    EXPECT_EQ(decoded.status, 1) << ids;
    EXPECT_THAT(decoded.out, HasSubstr("\"error\"")) << ids;
  }
}

TEST(Tokenize, TextThatIsNotUtf8IsMisuse) {
  const ProgramResult result = run_program({"tokenize", "--model-path", kChat}, {.input = "abc\xc3"});
  EXPECT_EQ(result.status, 2);
  EXPECT_EQ(result.out, "");
  EXPECT_THAT(result.err, HasSubstr("not valid UTF-8 at byte 3"));
}

TEST(Tokenize, IdsThatAreNoneAreAFailure) {
  for (const char* ids : {"1 x", "99999999", "-1"}) {
    const ProgramResult result = run_program({"tokenize", "--model-path", kChat, "--decode"}, {.input = ids});
    EXPECT_EQ(result.status, 1) << ids;
    EXPECT_THAT(result.err, HasSubstr("[tokenize] ids: got"));
  }
}

TEST(Tokenize, UnicodeLineSeparatorsDoNotBreakLines) {
  const std::string text =
      "a\xE2\x80\xA8"
      "b\xE2\x80\xA9"
      "c\xC2\x85"
      "d";
  const ProgramResult ids = run_program({"tokenize", "--model-path", kChat, "--json"}, {.input = text});
  const ProgramResult back =
      run_program({"tokenize", "--model-path", kChat, "--jsonl", "--decode"}, {.input = ids.out});
  EXPECT_EQ(back.out, "{\"text\": \"a\\u2028b\\u2029c\\u0085d\"}\n");
}

TEST(Tokenize, AnswersEachLineBeforeTheNextIsWritten) {
  RunningProgram program({"tokenize", "--model-path", kChat, "--jsonl"});
  program.write_input("{\"text\": \"a\"}\n");
  program.read_output(8);
  program.write_input("{\"text\": \"b\"}\n");
  const ProgramResult result = program.wait();
  EXPECT_EQ(json_lines(result.out).size(), 2u);
}

TEST(Tokenize, TokenizerAloneIsEnough) {
  const ScratchDir folder;
  folder.write("tokenizer.json", read_text(kChat + "/tokenizer.json"));
  const std::string expected = run_program({"tokenize", "--model-path", kChat, "Hi"}).out;
  EXPECT_EQ(run_program({"tokenize", "--model-path", folder.path(), "Hi"}).out, expected);
  EXPECT_EQ(run_program({"tokenize", "--model-path", folder.path("tokenizer.json"), "Hi"}).out, expected);
}

TEST(Tokenize, MissingThingsAreNamed) {
  const ScratchDir folder;
  for (const std::string& path : {folder.path(), folder.path("absent"), golden("models/r1")}) {
    const ProgramResult result = run_program({"tokenize", "--model-path", path, "Hi"});
    EXPECT_EQ(result.status, 1) << path;
    EXPECT_THAT(result.err, HasSubstr(path));
  }
}

TEST(Template, RendersGoldenChats) {
  std::string requests;
  const std::vector<Json> chats = golden_chats();
  for (const Json& chat : chats) {
    requests += Json::object().set("messages", *chat.find("messages")).set("add_generation_prompt", true).dump() + "\n";
  }
  const ProgramResult result = run_program({"template", "--model-path", kChat, "--jsonl"}, {.input = requests});
  EXPECT_EQ(result.status, 0) << result.err;
  const std::vector<Json> lines = json_lines(result.out);
  ASSERT_EQ(lines.size(), chats.size());
  for (size_t i = 0; i < chats.size(); ++i)
    EXPECT_EQ(lines[i].find("rendered")->as_string(), chats[i].find("prompt_text")->as_string());
}

TEST(Template, FileWithTokensTimeAndVariables) {
  const ScratchDir folder;
  folder.write("t.jinja",
               "{{ bos_token }}{{ strftime_now('%d %b %Y') }} {{ mood }}{{ messages[0].content }}{{ eos_token }}");
  const ProgramResult result = run_program(
      {"template", "--file", folder.path("t.jinja"), "--jsonl", "--now", "2025-09-12 10:20:30"},
      {.input = "{\"messages\": [{\"role\": \"user\", \"content\": \"!\"}], \"bos_token\": \"<s>\", \"eos_token\": "
                "\"</s>\", \"kwargs\": {\"mood\": \"fine\"}}\n"});
  EXPECT_EQ(result.out, "{\"rendered\": \"<s>12 Sep 2025 fine!</s>\"}\n") << result.err;
  const ProgramResult text = run_program({"template", "--file", folder.path("t.jinja"), "--now=2025-09-12 10:20:30"},
                                         {.input = "[{\"role\": \"user\",\n \"content\": \"?\"}]"});
  EXPECT_EQ(text.out, "12 Sep 2025 ?") << text.err;
}

TEST(Template, RefusalIsAResultAndABrokenLineAFailure) {
  const ScratchDir folder;
  folder.write("t.jinja", "{{ raise_exception('roles must alternate') }}");
  const std::string request = "{\"messages\": [{\"role\": \"user\", \"content\": \"x\"}]}\n";
  const ProgramResult refused =
      run_program({"template", "--file", folder.path("t.jinja"), "--jsonl"}, {.input = request});
  EXPECT_EQ(refused.status, 0);
  EXPECT_THAT(refused.out, HasSubstr("{\"error\": "));
  EXPECT_THAT(refused.out, HasSubstr("roles must alternate"));
  const ProgramResult broken =
      run_program({"template", "--file", folder.path("t.jinja"), "--jsonl"}, {.input = "{}\n[1\n" + request});
  EXPECT_EQ(broken.status, 1);
  EXPECT_EQ(json_lines(broken.out).size(), 3u);
  const ProgramResult single = run_program({"template", "--file", folder.path("t.jinja")}, {.input = request});
  EXPECT_EQ(single.status, 1);
  EXPECT_THAT(single.err, HasSubstr("roles must alternate"));
}

TEST(Template, MissingFileAndModelWithoutTemplateAreNamed) {
  const ProgramResult file = run_program({"template", "--file", "/nonexistent/t.jinja"}, {.input = "[]"});
  EXPECT_EQ(file.status, 1);
  EXPECT_THAT(file.err, HasSubstr("/nonexistent/t.jinja"));
  const ProgramResult model = run_program({"template", "--model-path", golden("models/r1")}, {.input = "[]"});
  EXPECT_EQ(model.status, 1);
  EXPECT_THAT(model.err, HasSubstr("has no chat template"));
}

}  // namespace
}  // namespace mobilellm
