/// Regular expressions that come with a tokenizer, run by PCRE2 within limits.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

namespace mobilellm {

/// A compiled expression in the dialect of the `tokenizers` package. Immutable; any thread may match.
class Regex {
 public:
  /// `where` (file and key) leads the errors. Throws kCorruptData for an expression that does not compile and
  /// kUnsupported for syntax that means something else here than in the reference.
  Regex(std::string_view pattern, const std::string& where);
  ~Regex();
  Regex(Regex&&) noexcept;
  Regex& operator=(Regex&&) noexcept;

  /// Matches of one text in order, as the reference iterates them: an empty match right after a match is skipped.
  class Matches {
   public:
    Matches(const Regex& regex, std::string_view well_formed_text) : regex_(regex), text_(well_formed_text) {}
    /// False at the end. Throws kResourceLimit when the expression needs more steps or memory than allowed, for one
    /// match or for the whole text.
    bool next(size_t& begin, size_t& end);

   private:
    int match_at_position(size_t& begin, size_t& end);

    const Regex& regex_;
    std::string_view text_;
    size_t position_ = 0;
    size_t last_match_end_ = SIZE_MAX;
    size_t spent_ = 0;  ///< Steps of the long tries so far, bytes read counted in.
  };

 private:
  struct Compiled;
  std::unique_ptr<Compiled> compiled_;
};

}  // namespace mobilellm
