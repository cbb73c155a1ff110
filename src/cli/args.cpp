// Parsing with CLI11, checking values and printing help.
#include "cli/args.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <numeric>

#include "base/error.h"
#include "cli/terminal.h"

namespace mobilellm::cli {

namespace {

constexpr size_t kHelpWidth = 80;
constexpr int kMaxFiles = 100000;
constexpr size_t kHelpColumn = 29;  // Where explanations of flags begin.

int64_t parse_integer(const std::string& text, const std::string& flag, const std::string& command, int64_t min,
                      int64_t max) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < min || value > max) {
    fail(ErrorCode::kInvalidArgument, "[{}] {}: got '{}', expected an integer from {} to {}", command, flag, text, min,
         max);
  }
  return value;
}

double parse_number(const std::string& text, const std::string& flag, const std::string& command, double min,
                    double max) {
  char* end = nullptr;
  const double value = std::strtod(text.c_str(), &end);
  // strtod also takes leading spaces and hexadecimal digits, which nobody means.
  const bool is_plain = !text.empty() && text.find_first_not_of("+-.0123456789eE") == std::string::npos;
  if (!is_plain || end != text.c_str() + text.size() || !std::isfinite(value) || value < min || value > max) {
    fail(ErrorCode::kInvalidArgument, "[{}] {}: got '{}', expected a number from {} to {}", command, flag, text, min,
         max);
  }
  return value;
}

size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t substituted = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({substituted, row[j] + 1, row[j - 1] + 1});
    }
  }
  return row.back();
}

}  // namespace

struct Args::Option {
  std::string names;       // Comma-separated, as CLI11 takes them.
  std::string value_name;  // Empty for a flag.
  std::string help;
  std::string section;  // Not empty when this option opens a section.
  std::string implied;  // Value of a flag given without one; empty when it needs one.
  bool is_list = false;
  bool takes_several = false;  // Values after one flag; is_list too.
  bool is_positional = false;
  std::function<void(const std::string& flag, const std::string& value)> set;

  std::string shown_name() const { return names.substr(0, names.find(',')); }
};

Args::Args(std::string command, std::string summary, std::string usage)
    : command_(std::move(command)), summary_(std::move(summary)), usage_(std::move(usage)) {}
Args::~Args() = default;

Args::Option& Args::add(const std::string& names, const std::string& value_name, const std::string& help,
                        std::function<void(const std::string&, const std::string&)> set) {
  options_.push_back(std::make_unique<Option>());
  Option& option = *options_.back();
  option.names = names;
  option.value_name = value_name;
  option.help = help;
  option.section = std::exchange(pending_section_, "");
  option.set = std::move(set);
  return option;
}

void Args::section(std::string title) { pending_section_ = std::move(title); }
void Args::example(std::string line) { examples_.push_back(std::move(line)); }
void Args::note(std::string text) { notes_.push_back(std::move(text)); }

void Args::flag(const std::string& names, bool& target, const std::string& help) {
  add(names, "", help, [&target](const std::string&, const std::string& value) { target = value == "true"; });
}

void Args::text(const std::string& names, const std::string& value_name, std::string& target, const std::string& help) {
  add(names, value_name, help, [&target](const std::string&, const std::string& value) { target = value; });
}

void Args::text(const std::string& names, const std::string& value_name, std::optional<std::string>& target,
                const std::string& help) {
  add(names, value_name, help, [&target](const std::string&, const std::string& value) { target = value; });
}

void Args::text_or(const std::string& names, const std::string& value_name, std::string& target,
                   const std::string& implied, const std::string& help) {
  add(names, value_name, help, [&target](const std::string&, const std::string& value) { target = value; }).implied =
      implied;
}

void Args::list(const std::string& names, const std::string& value_name, std::vector<std::string>& target,
                const std::string& help) {
  add(names, value_name, help, [&target](const std::string&, const std::string& value) {
    target.push_back(value);
  }).is_list = true;
}

void Args::files(const std::string& names, const std::string& value_name, std::vector<std::string>& target,
                 const std::string& help) {
  list(names, value_name, target, help);
  options_.back()->takes_several = true;
}

void Args::integer(const std::string& names, const std::string& value_name, int64_t& target, int64_t min, int64_t max,
                   const std::string& help) {
  add(names, value_name, help, [this, &target, min, max](const std::string& flag, const std::string& value) {
    target = parse_integer(value, flag, command_, min, max);
  });
}

void Args::integer(const std::string& names, const std::string& value_name, std::optional<int64_t>& target, int64_t min,
                   int64_t max, const std::string& help) {
  add(names, value_name, help, [this, &target, min, max](const std::string& flag, const std::string& value) {
    target = parse_integer(value, flag, command_, min, max);
  });
}

void Args::number(const std::string& names, const std::string& value_name, double& target, double min, double max,
                  const std::string& help) {
  add(names, value_name, help, [this, &target, min, max](const std::string& flag, const std::string& value) {
    target = parse_number(value, flag, command_, min, max);
  });
}

void Args::number(const std::string& names, const std::string& value_name, std::optional<double>& target, double min,
                  double max, const std::string& help) {
  add(names, value_name, help, [this, &target, min, max](const std::string& flag, const std::string& value) {
    target = parse_number(value, flag, command_, min, max);
  });
}

void Args::positional(const std::string& value_name, std::optional<std::string>& target, const std::string& help) {
  add(value_name, value_name, help, [&target](const std::string&, const std::string& value) {
    target = value;
  }).is_positional = true;
}

void Args::fail_usage(const std::string& message) const {
  fail(ErrorCode::kInvalidArgument, "[{}] {}; see 'mobilellm {} --help'", command_, message, command_);
}

bool Args::parse(int argc, const char* const* argv) {
  CLI::App app;
  app.set_help_flag("");
  app.allow_extras();
  CLI::Option* help_flag = app.add_flag("--help,-h");
  std::vector<CLI::Option*> parsed;
  for (const auto& option : options_) {
    CLI::Option* added = nullptr;
    if (option->value_name.empty()) {
      added = app.add_flag(option->names);
    } else {
      added = app.add_option(option->names)->type_name(option->value_name)->expected(1)->allow_extra_args(false);
      if (option->takes_several) added->expected(1, kMaxFiles)->allow_extra_args(true);
      added->multi_option_policy(option->is_list ? CLI::MultiOptionPolicy::TakeAll : CLI::MultiOptionPolicy::TakeLast);
    }
    parsed.push_back(added);
  }

  const std::vector<std::string> given(argv, argv + argc);
  const auto separator = std::find(given.begin(), given.end(), "--");

  // CLI11 takes the arguments last first.
  std::vector<std::string> arguments;
  for (int i = 0; i < argc; ++i) {
    arguments.emplace_back(argv[i]);
    const bool has_value = i + 1 < argc && argv[i + 1][0] != '-';
    for (const auto& option : options_) {
      if (!option->implied.empty() && !has_value && option->shown_name() == argv[i]) {
        arguments.back() += "=" + option->implied;
      }
    }
  }
  std::reverse(arguments.begin(), arguments.end());
  try {
    app.parse(std::move(arguments));
  } catch (const CLI::ArgumentMismatch& mismatch) {
    fail_usage(mismatch.what());
  } catch (const CLI::ParseError& error) {
    fail_usage(error.what());
  }
  if (help_flag->count() > 0) {
    print(help());
    return false;
  }
  for (const std::string& extra : app.remaining()) {
    if (extra == "--") continue;
    const std::string flag = extra.substr(0, extra.find('='));
    // After "--" nothing is a flag. A value may have been implied, so the flag's name alone counts too.
    const auto is_extra = [&](const std::string& word) { return word == extra || word == flag; };
    const bool is_positional = std::any_of(separator, given.end(), is_extra);
    if (is_positional || extra.size() < 2 || extra[0] != '-') fail_usage("unexpected argument '" + extra + "'");
    std::vector<std::string> known;
    for (const auto& option : options_) {
      for (const std::string& name : CLI::detail::split(option->names, ',')) known.push_back(name);
    }
    const std::string near = nearest_word(flag, known);
    fail_usage("unknown flag '" + flag + "'" + (near.empty() ? "" : " (did you mean '" + near + "'?)"));
  }
  for (size_t i = 0; i < options_.size(); ++i) {
    if (parsed[i]->count() == 0) continue;
    const Option& option = *options_[i];
    if (option.value_name.empty()) {
      option.set(option.shown_name(), parsed[i]->as<bool>() ? "true" : "false");
      continue;
    }
    for (const std::string& value : parsed[i]->reduced_results()) option.set(option.shown_name(), value);
  }
  return true;
}

std::string Args::help() const {
  std::string out = wrap_text("usage: mobilellm " + command_ + (usage_.empty() ? "" : " " + usage_), kHelpWidth, 7);
  out += "\n\n" + wrap_text(summary_, kHelpWidth, 0) + "\n";
  bool is_first = true;
  const auto indented = [](const std::string& text) {
    std::string result;
    for (const char c : wrap_text(text, kHelpWidth - kHelpColumn, 0)) {
      result += c;
      if (c == '\n') result.append(kHelpColumn, ' ');
    }
    return result;
  };
  for (const auto& option : options_) {
    if (!option->section.empty() || is_first) {
      out += "\n" + (option->section.empty() ? std::string("flags") : option->section) + ":\n";
      is_first = false;
    }
    std::string row = "  ";
    const std::vector<std::string> names = CLI::detail::split(option->names, ',');
    for (const std::string& name : names) {
      if (name.size() == 2 && name[1] != '-') row += name + ", ";
    }
    row += names.front();
    if (!option->value_name.empty() && !option->is_positional) row += " " + option->value_name;
    if (row.size() + 2 > kHelpColumn) {
      out += row + "\n";
      row.clear();
    }
    row.resize(kHelpColumn, ' ');
    out += row + indented(option->help) + "\n";
  }
  out += "  -h, --help";
  out.append(kHelpColumn - 12, ' ');
  out += "this text\n";
  if (!examples_.empty()) out += "\nexamples:\n";
  for (const std::string& line : examples_) out += "  " + line + "\n";
  for (const std::string& text : notes_) out += "\n" + wrap_text(text, kHelpWidth, 0) + "\n";
  return out;
}

std::string nearest_word(std::string_view word, const std::vector<std::string>& candidates) {
  std::string best;
  size_t best_distance = word.size() / 3 + 1;  // Further away is another word, not a slip.
  for (const std::string& candidate : candidates) {
    const size_t distance = edit_distance(word, candidate);
    if (distance <= best_distance && (best.empty() || distance < best_distance)) {
      best = candidate;
      best_distance = distance;
    }
  }
  return best;
}

std::string wrap_text(std::string_view text, size_t width, size_t indent) {
  std::string out;
  size_t column = 0;
  size_t begin = 0;
  while (begin < text.size()) {
    size_t end = std::min(text.find(' ', begin), text.size());
    const std::string_view word = text.substr(begin, end - begin);
    if (column > 0 && column + 1 + word.size() > width) {
      out += '\n';
      out.append(indent, ' ');
      column = indent;
    } else if (column > 0) {
      out += ' ';
      ++column;
    }
    out += word;
    column += word.size();
    begin = end + 1;
  }
  return out;
}

}  // namespace mobilellm::cli
