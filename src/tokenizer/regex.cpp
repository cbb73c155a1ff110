// Regex over PCRE2: JIT where the system allows it, the interpreter elsewhere.
#include "tokenizer/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>
#include <new>

#include "base/error.h"
#include "tokenizer/utf8_scan.h"

namespace mobilellm {
namespace {

constexpr size_t kMaxPattern = 64 << 10;
// Backtracking steps of one match: enough to back out of a run as long as the text, not enough to hang on a short one.
constexpr uint32_t kBaseSteps = 200'000;
constexpr uint32_t kStepsPerByte = 50;
constexpr uint32_t kMaxSteps = 100'000'000;
// Steps of all long tries over one text: without this, many matches that each read the whole text pass.
constexpr size_t kTextSteps = 2'000'000;
constexpr size_t kTextStepsPerByte = 200;
constexpr size_t kBytesPerStep = 8;  // Reading on is cheaper than backtracking.
// What each match may read and do without being counted, and the factor to the next try.
constexpr size_t kFirstWindow = 256;
constexpr size_t kFirstSteps = 2'000;
constexpr size_t kGrowth = 4;
constexpr uint32_t kHeapLimitKib = 64 << 10;
constexpr size_t kMaxJitStack = 8 << 20;

/// What matching needs besides the expression; one per thread, because a result is read before the next match starts.
struct MatchState {
  pcre2_match_data* data = pcre2_match_data_create(1, nullptr);
  pcre2_match_context* context = pcre2_match_context_create(nullptr);
  pcre2_jit_stack* stack = pcre2_jit_stack_create(32 << 10, kMaxJitStack, nullptr);

  MatchState() {
    if (data == nullptr || context == nullptr) throw std::bad_alloc();
    pcre2_set_heap_limit(context, kHeapLimitKib);
    pcre2_jit_stack_assign(context, nullptr, stack);  // Without a stack PCRE2 uses 32 KiB of the machine's.
  }
  ~MatchState() {
    pcre2_jit_stack_free(stack);
    pcre2_match_context_free(context);
    pcre2_match_data_free(data);
  }
  MatchState(const MatchState&) = delete;
  MatchState& operator=(const MatchState&) = delete;
};

// PCRE2's \s also takes U+180E, which left White_Space in Unicode 6.3.
constexpr std::string_view kSpaceRanges =
    R"(\t-\r \x{85}\x{A0}\x{1680}\x{2000}-\x{200A}\x{2028}\x{2029}\x{202F}\x{205F}\x{3000})";

/// The pattern with \s spelled out; refuses what the reference's dialect (Ruby's) reads differently.
std::string translate(std::string_view pattern, const std::string& where) {
  std::string out;
  int class_depth = 0;
  const auto refuse = [&](std::string_view syntax) {
    fail(ErrorCode::kUnsupported, "[tokenizer] {}: the expression uses {}, which is not supported", where, syntax);
  };
  for (size_t i = 0; i < pattern.size(); ++i) {
    const char c = pattern[i];
    const std::string_view rest = pattern.substr(i);
    if (c == '\\' && i + 1 < pattern.size()) {
      const char escaped = pattern[++i];
      if (escaped == 'h' || escaped == 'H') refuse("\\h");
      if (escaped == 's') {
        if (class_depth == 0) out += '[';
        out += kSpaceRanges;
        if (class_depth == 0) out += ']';
      } else if (escaped == 'S' && class_depth == 0) {
        out.append("[^").append(kSpaceRanges).append("]");
      } else {
        out.append({c, escaped});
      }
      continue;
    }
    if (class_depth > 0) {
      if (rest.starts_with("&&")) refuse("&& in a character class");
      if (rest.starts_with("[:")) {
        const size_t close = rest.find(":]");
        if (close == std::string_view::npos) refuse("an unfinished [: in a character class");
        out += rest.substr(0, close + 2);
        i += close + 1;
        continue;
      }
      if (c == '[') refuse("a character class inside another");
      if (c == ']') --class_depth;
    } else if (c == '[') {
      ++class_depth;
      out += c;
      if (i + 1 < pattern.size() && pattern[i + 1] == '^') out += pattern[++i];
      // A bracket that comes first is an ordinary character.
      if (i + 1 < pattern.size() && pattern[i + 1] == ']') {
        out += "\\]";
        ++i;
      }
      continue;
    } else if (rest.starts_with("(?m")) {
      refuse("(?m");
    }
    out += c;
  }
  return out;
}

}  // namespace

struct Regex::Compiled {
  pcre2_code* code = nullptr;
  bool has_jit = false;
  std::string where;
  ~Compiled() { pcre2_code_free(code); }
};

Regex::Regex(std::string_view pattern, const std::string& where) : compiled_(std::make_unique<Compiled>()) {
  compiled_->where = where;
  if (pattern.size() > kMaxPattern) {
    fail(ErrorCode::kResourceLimit, "[tokenizer] {}: the expression has {} bytes, at most {} are allowed", where,
         pattern.size(), kMaxPattern);
  }
  const std::string translated = translate(pattern, where);
  int error = 0;
  PCRE2_SIZE offset = 0;
  // The reference's ^ and $ match at every line.
  compiled_->code =
      pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(),
                    PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C, &error, &offset, nullptr);
  if (compiled_->code == nullptr) {
    char message[256] = {};
    pcre2_get_error_message(error, reinterpret_cast<PCRE2_UCHAR*>(message), sizeof message);
    fail(ErrorCode::kCorruptData, "[tokenizer] {}: not a regular expression: {} (at {} of \"{}\")", where, message,
         offset, translated.substr(0, 200));
  }
  compiled_->has_jit = pcre2_jit_compile(compiled_->code, PCRE2_JIT_COMPLETE | PCRE2_JIT_PARTIAL_HARD) == 0;
}
Regex::~Regex() = default;
Regex::Regex(Regex&&) noexcept = default;
Regex& Regex::operator=(Regex&&) noexcept = default;

/// One search from position_, which is tried on a short window and few steps first and on more of both while that does
/// not decide it. PCRE2 does not tell how much it read or did; the sizes of the failed tries bound it.
int Regex::Matches::match_at_position(size_t& begin, size_t& end) {
  thread_local MatchState state;
  const Compiled& compiled = *regex_.compiled_;
  const auto match = compiled.has_jit ? pcre2_jit_match : pcre2_match;
  const auto subject = reinterpret_cast<PCRE2_SPTR>(text_.data());
  const size_t max_steps = std::min<size_t>(kMaxSteps, kBaseSteps + text_.size() * kStepsPerByte);
  const size_t budget = kTextSteps + text_.size() * kTextStepsPerByte;
  size_t window = kFirstWindow;
  size_t n_steps = kFirstSteps;
  while (true) {
    size_t window_end = window < text_.size() - position_ ? position_ + window : text_.size();
    while (window_end < text_.size() && (static_cast<uint8_t>(text_[window_end]) & 0xC0) == 0x80) ++window_end;
    const bool is_whole = window_end == text_.size();
    pcre2_set_match_limit(state.context, static_cast<uint32_t>(n_steps));
    // In this mode a match that would read past the window is a partial one, so a full match is that of the text.
    const uint32_t options = PCRE2_NO_UTF_CHECK | (is_whole ? 0 : PCRE2_PARTIAL_HARD);
    const int result = match(compiled.code, subject, window_end, position_, options, state.data, state.context);
    if (result == PCRE2_ERROR_MATCHLIMIT && n_steps < max_steps) {
      n_steps = std::min(n_steps * kGrowth, max_steps);
      spent_ += n_steps;
    } else if (!is_whole && (result == PCRE2_ERROR_PARTIAL || result == PCRE2_ERROR_NOMATCH)) {
      window *= kGrowth;
      spent_ += std::min(window, text_.size() - position_) / kBytesPerStep;
    } else if (result < 0) {
      return result;
    } else {
      const PCRE2_SIZE* const span = pcre2_get_ovector_pointer(state.data);
      begin = span[0];
      end = span[1];
      // PCRE2 takes the window's end for the text's when nothing was read before it.
      if (is_whole || end < window_end) return result;
      window *= kGrowth;
      spent_ += std::min(window, text_.size() - position_) / kBytesPerStep;
    }
    if (spent_ > budget) return PCRE2_ERROR_MATCHLIMIT;
  }
}

bool Regex::Matches::next(size_t& begin, size_t& end) {
  const Compiled& compiled = *regex_.compiled_;
  while (position_ <= text_.size()) {
    const int result = match_at_position(begin, end);
    if (result == PCRE2_ERROR_NOMATCH) return false;
    if (result < 0) {
      fail(ErrorCode::kResourceLimit,
           "[tokenizer] {}: the expression needs too many steps or too much memory at byte {} of {}", compiled.where,
           position_, text_.size());
    }
    if (begin > end) {
      fail(ErrorCode::kUnsupported, "[tokenizer] {}: the expression uses \\K in a look-around", compiled.where);
    }
    if (begin == end && last_match_end_ == end) {
      position_ = end < text_.size() ? end + char_at(text_.data() + end).n_bytes : text_.size() + 1;
      continue;
    }
    position_ = end;
    last_match_end_ = end;
    return true;
  }
  return false;
}

}  // namespace mobilellm
