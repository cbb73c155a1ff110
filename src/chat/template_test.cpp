// Chat templates against the goldens of jinja2 and transformers.
#include "chat/template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <sstream>
#include <thread>

#include "base/error.h"
#include "chat/jinja/text_search.h"

namespace mobilellm {
namespace {

const std::string kVectors = MOBILELLM_SOURCE_DIR "/tests/vectors/";
const std::string kShared = MOBILELLM_SOURCE_DIR "/../shared/fixtures/";

std::string read_text(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file.good()) << path;
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

std::vector<Json> read_jsonl(const std::string& path) {
  std::ifstream file(path);
  EXPECT_TRUE(file.good()) << path;
  std::vector<Json> rows;
  for (std::string line; std::getline(file, line);) {
    if (!line.empty()) rows.push_back(Json::parse(line, path));
  }
  return rows;
}

std::string string_of(const Json& row, const char* key) {
  const Json* value = row.find(key);
  return value != nullptr && value->is_string() ? value->as_string() : "";
}

// Checks one row: the text it renders to, or that it fails (raise_exception: with the same words).
void expect_row(const Json& row, const std::string& name, const std::function<std::string()>& render) {
  const Json* rendered = row.find("rendered");
  try {
    const std::string text = render();
    if (rendered == nullptr) {
      ADD_FAILURE() << name << ": expected " << string_of(row, "message") << ", got " << text;
    } else {
      EXPECT_EQ(text, rendered->as_string()) << name;
    }
  } catch (const TemplateRefusal& error) {
    EXPECT_EQ(string_of(row, "error"), "TemplateError") << name << ": " << error.what();
    EXPECT_EQ(error.reason(), string_of(row, "message")) << name;
  } catch (const Error& error) {
    EXPECT_EQ(rendered, nullptr) << name << ": " << error.what();
    EXPECT_NE(string_of(row, "error"), "TemplateError") << name << ": " << error.what();
    EXPECT_THAT(error.what(), testing::StartsWith("[template] ")) << name;
  }
}

void expect_plain_cases(const std::string& path) {
  const WallClock now = WallClock::parse("2025-09-12 10:20:30");
  const std::vector<Json> rows = read_jsonl(path);
  ASSERT_GT(rows.size(), 10U);
  for (const Json& row : rows) {
    const std::string source = string_of(row, "template");
    expect_row(row, source,
               [&] { return ChatTemplate::parse(source, "case")->render_plain(*row.find("context"), now); });
  }
}

ChatTemplate::Inputs inputs_of(const Json& row) {
  ChatTemplate::Inputs inputs;
  inputs.messages = *row.find("messages");
  if (const Json* tools = row.find("tools")) inputs.tools = *tools;
  if (const Json* flag = row.find("add_generation_prompt")) inputs.add_generation_prompt = flag->as_bool();
  if (const Json* flag = row.find("continue_final_message")) inputs.continue_final_message = flag->as_bool();
  inputs.bos_token = string_of(row, "bos_token");
  inputs.eos_token = string_of(row, "eos_token");
  if (const Json* kwargs = row.find("kwargs")) inputs.kwargs = *kwargs;
  inputs.now = WallClock::parse("2025-09-12 10:20:30");
  return inputs;
}

void expect_chat_cases(const std::string& rows_path, const std::string& templates) {
  std::map<std::string, std::shared_ptr<const ChatTemplate>> cache;
  for (const Json& row : read_jsonl(rows_path)) {
    const std::string name = string_of(row, "template");
    auto& chat_template = cache[name];
    if (!chat_template) chat_template = ChatTemplate::parse(read_text(templates + name + ".jinja"), name);
    expect_row(row, name + " " + string_of(row, "case"), [&] { return chat_template->render(inputs_of(row)); });
  }
  EXPECT_GT(cache.size(), 5U);
}

std::string render(const std::string& source, const std::string& context = "{}") {
  return ChatTemplate::parse(source, "t")->render_plain(Json::parse(context, "context"));
}

std::string error_of(const std::function<void()>& work, ErrorCode code) {
  try {
    work();
  } catch (const Error& error) {
    EXPECT_EQ(static_cast<int>(error.code()), static_cast<int>(code)) << error.what();
    return error.what();
  }
  ADD_FAILURE() << "expected an error";
  return {};
}

TEST(Jinja, MatchesGoldenCases) { expect_plain_cases(kVectors + "jinja/cases.jsonl"); }
TEST(Jinja, MatchesFuzzedCases) { expect_plain_cases(kVectors + "jinja/fuzzed.jsonl"); }

TEST(ChatTemplate, MatchesOwnTemplates) {
  expect_chat_cases(kVectors + "chat_templates/rendered.jsonl", kVectors + "chat_templates/");
}

TEST(ChatTemplate, MatchesPublishedTemplates) {
  const std::string folder = kShared + "chat_templates/";
  if (!std::filesystem::exists(folder)) GTEST_SKIP() << "no published chat templates beside the repository";
  expect_chat_cases(folder + "rendered.jsonl", folder + "templates/");
}

TEST(ChatTemplate, NamesOriginAndLineInErrors) {
  EXPECT_THAT(error_of([] { render("a\nb\n{{ 1 + }}"); }, ErrorCode::kTemplate),
              testing::StartsWith("[template] t:3: "));
  EXPECT_THAT(error_of([] { render("a\n{{ x.y.z }}"); }, ErrorCode::kTemplate),
              testing::StartsWith("[template] t:2: 'x' is undefined"));
  EXPECT_THAT(error_of([] { render("\n\n{{ 'abc }}"); }, ErrorCode::kTemplate),
              testing::StartsWith("[template] t:3: "));
  EXPECT_THAT(error_of([] { render("{% if x %}\n{% for y in z %}\n"); }, ErrorCode::kTemplate),
              testing::HasSubstr("endfor"));
  EXPECT_THAT(error_of([] { render("\xFF"); }, ErrorCode::kTemplate), testing::HasSubstr("UTF-8"));
}

TEST(ChatTemplate, GivesTheReasonOfARefusal) {
  try {
    render("\n{{ raise_exception('no ' ~ 1) }}");
    FAIL();
  } catch (const TemplateRefusal& refusal) {
    EXPECT_EQ(refusal.reason(), "no 1");
    EXPECT_STREQ(refusal.what(), "[template] t:2: no 1");
  }
}

TEST(ChatTemplate, SurvivesTruncationAtEveryByte) {
  const std::string source = read_text(kVectors + "chat_templates/own-gemma3.jinja");
  for (size_t n = 0; n < source.size(); ++n) {
    try {
      ChatTemplate::parse(source.substr(0, n), "cut");
    } catch (const Error& error) {
      EXPECT_EQ(static_cast<int>(error.code()), static_cast<int>(ErrorCode::kTemplate)) << error.what();
    }
  }
}

// Each would need far more time, memory or stack than a template may use.
TEST(ChatTemplate, StopsHostileTemplates) {
  std::string many_parens(100'000, '(');
  std::string many_nots;
  std::string many_ifs;
  std::string many_plus = "1";
  std::string many_attributes = "x";
  std::string many_elses = "1";
  for (int i = 0; i < 20'000; ++i) {
    many_nots += "not ";
    many_ifs += "{% if 1 %}";
    many_plus += "+1";
    many_attributes += ".a";
    many_elses += " if 0 else 1";
  }
  const std::vector<std::string> sources = {
      "{{ 'a' * 10**10 }}",
      "{{ [1] * 10**9 }}",
      "{% set ns = namespace(s='ab') %}{% for i in range(100) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
      "{% set ns = namespace(s=[1]) %}{% for i in range(100) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
      "{% set ns = namespace(s=[1]) %}{% for i in range(100) %}{% set ns.s = [ns.s, ns.s] %}{% endfor %}{{ ns.s }}",
      "{% set ns = namespace(s=[1]) %}{% for i in range(100) %}{% set ns.s = [ns.s, ns.s] %}{% endfor %}{{ ns.s == "
      "ns.s|list }}",
      "{% set ns = namespace(s=[1]) %}{% for i in range(100) %}{% set ns.s = [ns.s, ns.s] %}{% endfor %}{{ ns.s|tojson "
      "}}",
      "{% set ns = namespace(s=[]) %}{% for i in range(1000) %}{% set ns.s = [ns.s] %}{% endfor %}",
      "{% set ns = namespace(s=[1]) %}{% for i in range(1000) %}{% set ns.s = ns.s|map('string') %}{% endfor %}",
      "{% for a in range(10000) %}{% for b in range(10000) %}{% endfor %}{% endfor %}",
      "{% for a in range(10000) %}{% for b in range(10000) %}xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx{% endfor %}{% endfor %}",
      "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
      "{% macro f(x) %}{{ f([x]) }}{% endmacro %}{{ f(1) }}",
      "{% for x in [[1]] recursive %}{{ loop([[1]]) }}{% endfor %}",
      "{% macro f() %}{{ caller() }}{% endmacro %}{% macro g() %}{% call f() %}{{ g() }}{% endcall %}{% endmacro %}{{ "
      "g() }}",
      "{% set ns = namespace() %}{% set ns.self = ns %}{{ ns }}",
      "{{ 'x'.ljust(10**12) }}",
      "{{ '%1000000000d' % 1 }}",
      "{{ 'abc'.replace('', 'y' * 1000000) * 1000 }}",
      "{{ ('a' * 1000000).replace('a', 'b' * 1000000) }}",
      "{{ ('a,' * 5000000).split(',') }}",
      "{{ 'x'|center(10**12) }}",
      "{{ ('x\n' * 1000)|indent(10**12) }}",
      "{{ 1|tojson(indent=10**12) }}",
      "{{ range(100000)|batch(1, 2)|list|length }}{{ [1]|batch(10**12, 0)|list }}",
      "{{ [1]|slice(10**12)|list }}",
      "{{ ('é' * 8000000)|list }}",
      "{{ " + many_parens,
      "{{ " + many_nots + "1 }}",
      "{{ " + many_plus + " }}",
      "{{ " + many_attributes + " }}",
      "{{ " + many_elses + " }}",
      many_ifs,
  };
  for (const std::string& source : sources) {
    const auto start = std::chrono::steady_clock::now();
    try {
      render(source);
      ADD_FAILURE() << source.substr(0, 200);
    } catch (const Error& error) {
      const bool is_expected = error.code() == ErrorCode::kResourceLimit || error.code() == ErrorCode::kTemplate;
      EXPECT_TRUE(is_expected) << error.what();
    }
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    EXPECT_LT(seconds.count(), 20.0) << source.substr(0, 200);
  }
}

TEST(ChatTemplate, SearchesPeriodicTextsInLinearTime) {
  const std::string texts =
      "{% set a = 'a' * 900000 %}{% set m = 'a' * 450000 %}{% set b = m ~ 'c' %}{% set c = 'c' ~ m %}";
  const auto start = std::chrono::steady_clock::now();
  EXPECT_EQ(render(texts + "{{ a.find(b) }} {{ a.rfind(c) }} {{ a.count(b) }} {{ b in a }} {{ a.split(b)|length }} "
                           "{{ a.rsplit(c)|length }} {{ a.partition(b)[1]|length }} {{ a.rpartition(c)[1]|length }} "
                           "{{ a.replace(b, '')|length }} {{ a.count(m) }} {{ (a ~ 'c').find(b) }}"),
            "-1 -1 0 False 1 1 0 0 900000 2 450000");
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  EXPECT_LT(seconds.count(), 5.0);
}

TEST(ChatTemplate, FindsLikeTheStandardLibrary) {
  // Every text of up to 7 letters a and b against every wanted text of up to 4.
  const auto texts_up_to = [](size_t n_max) {
    std::vector<std::string> texts = {""};
    for (size_t i = 0; i < texts.size(); ++i) {
      if (texts[i].size() == n_max) continue;
      texts.push_back(texts[i] + 'a');
      texts.push_back(texts[i] + 'b');
    }
    return texts;
  };
  for (const std::string& wanted : texts_up_to(4)) {
    jinja::Budget budget;
    for (const std::string& text : texts_up_to(7)) {
      EXPECT_EQ(jinja::TextSearch(budget, text, wanted).find(0, text.size()), text.find(wanted))
          << text << ' ' << wanted;
      EXPECT_EQ(jinja::TextSearch(budget, text, wanted, true).find(0, text.size()), text.rfind(wanted))
          << text << ' ' << wanted;
    }
  }
}

TEST(ChatTemplate, PaysForEveryPassOverALongText) {
  // Most of the budget goes first, so that few passes over the long texts are left.
  const std::string loop =
      "{% for i in range(22) %}{% set x = range(99999)|list %}{% endfor %}{% set a = 'A' + 'a' * 1000000 %}"
      "{% set w = ' ' * 1000000 %}{% set n = '1' * 1000000 %}{% set d = dict.fromkeys(range(20000)) %}\n"
      "{% for i in range(2000) %}{% set x = ";
  for (const char* work : {"w.strip()", "w.lstrip()", "w.rstrip()", "a.istitle()", "a.islower()", "a.isidentifier()",
                           "n|float", "a|int", "dict(d, k=1)", "'x'.replace('y', a)", "a.zfill(1)"}) {
    const auto start = std::chrono::steady_clock::now();
    // A limit error names the template and the line.
    EXPECT_THAT(error_of([&] { render(loop + work + " %}{% endfor %}"); }, ErrorCode::kResourceLimit),
                testing::StartsWith("[template] t:2: too many steps while rendering"))
        << work;
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    EXPECT_LT(seconds.count(), 5.0) << work;
  }
}

TEST(ChatTemplate, NamesTheVariableThatIsTooLarge) {
  Json::Object variables;
  variables.emplace_back("big", std::string(size_t{100} << 20, 'x'));
  EXPECT_EQ(error_of([&] { ChatTemplate::parse("", "t")->render_plain(Json(std::move(variables))); },
                     ErrorCode::kResourceLimit),
            "[template] t: variable \"big\": text too long while rendering");
}

TEST(ChatTemplate, HasNoWayOut) {
  for (const char* source :
       {"{% include 'x' %}", "{% import 'x' as y %}", "{% from 'x' import y %}", "{% extends 'x' %}",
        "{{ ''.__class__.__mro__ }}", "{{ [].append(1) }}", "{{ {}.update({}) }}", "{{ range.__globals__.x }}",
        "{{ self.__init__.x }}", "{{ lipsum.__globals__.os }}"}) {
    error_of([&] { render(source); }, ErrorCode::kTemplate);
  }
}

TEST(ChatTemplate, ChoosesFromTheConfig) {
  const auto choose = [](const std::string& json, bool has_tools) {
    const auto result = ChatTemplate::from_config(Json::parse(json, "c"), "tokenizer_config.json", has_tools);
    return result ? result->source() : "none";
  };
  const std::string list = R"([{"name": "default", "template": "D"}, {"name": "tool_use", "template": "T"}])";
  EXPECT_EQ(choose("\"S\"", false), "S");
  EXPECT_EQ(choose(list, false), "D");
  EXPECT_EQ(choose(list, true), "T");
  EXPECT_EQ(choose(R"([{"name": "default", "template": "D"}])", true), "D");
  EXPECT_EQ(choose("null", false), "none");
  for (const char* bad : {"3", "[3]", "[{\"name\": \"default\"}]", "[]", "{}"}) {
    EXPECT_THAT(error_of([&] { choose(bad, false); }, ErrorCode::kCorruptData),
                testing::HasSubstr("tokenizer_config.json"));
  }
}

TEST(ChatTemplate, ChecksItsInputs) {
  const auto chat_template = ChatTemplate::parse("{{ messages[0].content }}", "t");
  ChatTemplate::Inputs inputs;
  error_of([&] { chat_template->render(inputs); }, ErrorCode::kInvalidArgument);
  inputs.messages = Json::array();
  error_of([&] { chat_template->render(inputs); }, ErrorCode::kInvalidArgument);
  inputs.messages = Json::parse(R"([{"role": "user", "content": "hi"}])", "m");
  EXPECT_EQ(chat_template->render(inputs), "hi");
  inputs.continue_final_message = true;
  error_of([&] { chat_template->render(inputs); }, ErrorCode::kInvalidArgument);
  inputs.add_generation_prompt = false;
  EXPECT_EQ(chat_template->render(inputs), "hi");
  inputs.messages.push(Json(3));
  error_of([&] { chat_template->render(inputs); }, ErrorCode::kInvalidArgument);
}

TEST(ChatTemplate, KnowsItsVariables) {
  const auto chat_template = ChatTemplate::parse("{% if enable_thinking is defined %}{{ x }}{% endif %} tools", "t");
  EXPECT_TRUE(chat_template->mentions("enable_thinking"));
  EXPECT_FALSE(chat_template->mentions("tools"));
}

TEST(ChatTemplate, RendersFromSeveralThreads) {
  const auto chat_template = ChatTemplate::parse(read_text(kVectors + "chat_templates/own-gemma3.jinja"), "gemma");
  ChatTemplate::Inputs inputs;
  inputs.messages = Json::parse(R"([{"role": "user", "content": "hi"}])", "m");
  const std::string expected = chat_template->render(inputs);
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int n = 0; n < 50; ++n) EXPECT_EQ(chat_template->render(inputs), expected);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST(WallClock, ReadsDates) {
  const WallClock clock = WallClock::parse("2024-02-29 23:59:58");
  EXPECT_EQ(clock.day, 29);
  EXPECT_EQ(clock.second, 58);
  EXPECT_EQ(WallClock::parse("2024-02-29").hour, 0);
  for (const char* bad : {"", "2024", "2023-02-29 00:00:00", "2024-13-01 00:00:00", "2024-01-01 24:00:00",
                          "2024-01-01 00:00:00x", "2024-01-01x00:00:00", "a024-01-01 00:00:00"}) {
    error_of([&] { WallClock::parse(bad); }, ErrorCode::kInvalidArgument);
  }
}

}  // namespace
}  // namespace mobilellm
