/// Flags of one command: declared once, then parsed, checked and printed as help of at most 80 columns.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace mobilellm::cli {

/// Every declared target keeps its value when the flag is absent; the last of repeated flags wins (list() and files()
/// keep all). `names` lists a flag and its aliases, e.g. "--temperature,--temp"; help shows the first and any
/// one-letter form.
class Args {
 public:
  /// `usage` is what follows the command's name in the usage line.
  Args(std::string command, std::string summary, std::string usage);
  ~Args();
  Args(const Args&) = delete;
  Args& operator=(const Args&) = delete;

  void section(std::string title);  ///< Heads the flags that follow in the help.
  void flag(const std::string& names, bool& target, const std::string& help);
  void text(const std::string& names, const std::string& value_name, std::string& target, const std::string& help);
  void text(const std::string& names, const std::string& value_name, std::optional<std::string>& target,
            const std::string& help);
  /// A flag whose value may be left out and is then `implied`.
  void text_or(const std::string& names, const std::string& value_name, std::string& target, const std::string& implied,
               const std::string& help);
  void list(const std::string& names, const std::string& value_name, std::vector<std::string>& target,
            const std::string& help);
  /// The same for files: several values may follow one flag, as a shell expands *.txt.
  void files(const std::string& names, const std::string& value_name, std::vector<std::string>& target,
             const std::string& help);
  /// Numbers in [min, max]; anything else is a usage error that names the flag, the value and the range.
  void integer(const std::string& names, const std::string& value_name, int64_t& target, int64_t min, int64_t max,
               const std::string& help);
  void integer(const std::string& names, const std::string& value_name, std::optional<int64_t>& target, int64_t min,
               int64_t max, const std::string& help);
  void number(const std::string& names, const std::string& value_name, double& target, double min, double max,
              const std::string& help);
  void number(const std::string& names, const std::string& value_name, std::optional<double>& target, double min,
              double max, const std::string& help);
  /// One argument without a flag.
  void positional(const std::string& value_name, std::optional<std::string>& target, const std::string& help);
  void example(std::string line);
  void note(std::string text);  ///< A paragraph at the end of the help.

  /// True when the command should go on; false when help was asked for and printed.
  /// Throws Error(kInvalidArgument) "[command] ..." for misuse.
  bool parse(int argc, const char* const* argv);
  std::string help() const;

  /// Misuse that the flags alone cannot show, in the same words.
  [[noreturn]] void fail_usage(const std::string& message) const;

 private:
  struct Option;
  Option& add(const std::string& names, const std::string& value_name, const std::string& help,
              std::function<void(const std::string& flag, const std::string& value)> set);

  std::string command_, summary_, usage_;
  std::vector<std::unique_ptr<Option>> options_;
  std::vector<std::string> examples_, notes_;
  std::string pending_section_;
};

/// The candidate that a mistyped word most likely meant, or empty when none is near.
std::string nearest_word(std::string_view word, const std::vector<std::string>& candidates);

/// Words of `text` in lines of at most `width` columns, each after the first indented by `indent`.
std::string wrap_text(std::string_view text, size_t width, size_t indent);

}  // namespace mobilellm::cli
