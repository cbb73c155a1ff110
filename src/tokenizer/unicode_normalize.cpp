// Unicode normalization (UAX 15) over the generated tables.
#include "tokenizer/unicode_normalize.h"

#include <algorithm>
#include <array>
#include <iterator>
#include <vector>

#include "base/utf8.h"
#include "tokenizer/unicode_tables.h"
#include "tokenizer/utf8_scan.h"

namespace mobilellm::unicode {
namespace {

// Hangul syllables compose by arithmetic (Unicode 3.12).
constexpr char32_t kHangulBase = 0xAC00;
constexpr char32_t kLeadBase = 0x1100;
constexpr char32_t kVowelBase = 0x1161;
constexpr char32_t kTailBase = 0x11A7;
constexpr char32_t kLeads = 19;
constexpr char32_t kVowels = 21;
constexpr char32_t kTails = 28;
constexpr char32_t kSyllables = kLeads * kVowels * kTails;

/// Marks that the reference keeps: its StripAccents knows Unicode 9 only. Ranges may hold characters that are no marks.
constexpr char32_t kLateMarks[][2] = {
    {0x7FD, 0x7FD},     {0x897, 0x89F},     {0x8CA, 0x8D3},     {0x9FE, 0x9FE},     {0xAFA, 0xAFF},
    {0xB55, 0xB55},     {0xC04, 0xC04},     {0xC3C, 0xC3C},     {0xCF3, 0xD00},     {0xD3B, 0xD3C},
    {0xD81, 0xD81},     {0xEBA, 0xEBA},     {0xECE, 0xECE},     {0x1715, 0x1715},   {0x180F, 0x180F},
    {0x1ABF, 0x1ACE},   {0x1CF7, 0x1CF7},   {0x1DF6, 0x1DFA},   {0xA82C, 0xA82C},   {0xA8FF, 0xA8FF},
    {0x10D24, 0x10D27}, {0x10D69, 0x10D6D}, {0x10EAB, 0x10EAC}, {0x10EFC, 0x10EFF}, {0x10F46, 0x10F50},
    {0x10F82, 0x10F85}, {0x11070, 0x11074}, {0x110C2, 0x110C2}, {0x11145, 0x11146}, {0x111C9, 0x111C9},
    {0x111CE, 0x111CF}, {0x11241, 0x11241}, {0x1133B, 0x1133B}, {0x113B8, 0x113E2}, {0x1145E, 0x1145E},
    {0x1182C, 0x1183A}, {0x11930, 0x11943}, {0x119D1, 0x11A0A}, {0x11A33, 0x11A5B}, {0x11A8A, 0x11A99},
    {0x11D31, 0x11D47}, {0x11D8A, 0x11D97}, {0x11EF3, 0x11F03}, {0x11F34, 0x11F5A}, {0x13440, 0x13455},
    {0x1611E, 0x1612F}, {0x16F4F, 0x16F4F}, {0x16F7F, 0x16F87}, {0x16FE4, 0x16FF1}, {0x1CF00, 0x1CF46},
    {0x1E08F, 0x1E08F}, {0x1E130, 0x1E136}, {0x1E2AE, 0x1E2AE}, {0x1E2EC, 0x1E2EF}, {0x1E4EC, 0x1E4EF},
    {0x1E5EE, 0x1E5EF}};

bool is_stripped(char32_t c) {
  if (c == 0x1CF2 || c == 0x1CF3) return true;  // Marks in Unicode 9, letters since.
  if ((class_of(c) & kMark) == 0) return false;
  const auto* const range = std::lower_bound(std::begin(kLateMarks), std::end(kLateMarks), c,
                                             [](const auto& entry, char32_t key) { return entry[1] < key; });
  return range == std::end(kLateMarks) || c < (*range)[0];
}

void append_decomposed(std::vector<char32_t>& out, char32_t c, bool compatible) {
  if (c < 0x80) {
    out.push_back(c);
    return;
  }
  if (c - kHangulBase < kSyllables) {
    const char32_t index = c - kHangulBase;
    out.push_back(kLeadBase + index / (kVowels * kTails));
    out.push_back(kVowelBase + index % (kVowels * kTails) / kTails);
    if (index % kTails != 0) out.push_back(kTailBase + index % kTails);
    return;
  }
  const NormalRecord& record = normal_record(c);
  const uint32_t span = compatible ? record.compatible : record.canonical;
  if ((span & 31) == 0) {
    out.push_back(c);
  } else {
    out.insert(out.end(), kDecomposed + (span >> 5), kDecomposed + (span >> 5) + (span & 31));
  }
}

uint8_t combining_class(char32_t c) { return c < 0x300 ? 0 : normal_record(c).combining_class; }

/// Sorts a run of marks by combining class, stably: by insertion when short, by counting when not.
void sort_run(char32_t* marks, size_t n) {
  if (n <= 16) {
    for (size_t i = 1; i < n; ++i) {
      const char32_t mark = marks[i];
      size_t at = i;
      for (; at > 0 && combining_class(marks[at - 1]) > combining_class(mark); --at) marks[at] = marks[at - 1];
      marks[at] = mark;
    }
    return;
  }
  std::array<size_t, 257> starts{};
  for (size_t i = 0; i < n; ++i) ++starts[size_t{combining_class(marks[i])} + 1];
  for (size_t c = 1; c < starts.size(); ++c) starts[c] += starts[c - 1];
  const std::vector<char32_t> unsorted(marks, marks + n);
  for (const char32_t mark : unsorted) marks[starts[combining_class(mark)]++] = mark;
}

void sort_marks(std::vector<char32_t>& chars) {
  for (size_t i = 0; i < chars.size();) {
    size_t end = i;
    while (end < chars.size() && combining_class(chars[end]) != 0) ++end;
    sort_run(chars.data() + i, end - i);
    i = end + 1;
  }
}

/// 0 when the two do not compose.
char32_t compose_pair(char32_t first, char32_t second) {
  if (first - kLeadBase < kLeads && second - kVowelBase < kVowels) {
    return kHangulBase + ((first - kLeadBase) * kVowels + (second - kVowelBase)) * kTails;
  }
  if (first - kHangulBase < kSyllables && (first - kHangulBase) % kTails == 0 && second - kTailBase - 1 < kTails - 1) {
    return first + (second - kTailBase);
  }
  const Composition* const end = kCompositions + kCompositionCount;
  const Composition* const found = std::lower_bound(kCompositions, end, std::pair{first, second},
                                                    [](const Composition& c, const std::pair<char32_t, char32_t>& key) {
                                                      return std::pair{c.first, c.second} < key;
                                                    });
  return found != end && found->first == first && found->second == second ? found->composed : 0;
}

void compose(std::vector<char32_t>& chars) {
  size_t n_out = 0;
  size_t starter = SIZE_MAX;
  int last_class = -1;  // Of the last character kept after the starter; -1 right after it.
  for (const char32_t c : chars) {
    const int c_class = combining_class(c);
    if (starter != SIZE_MAX && last_class < c_class) {
      if (const char32_t composed = compose_pair(chars[starter], c); composed != 0) {
        chars[starter] = composed;
        continue;
      }
    }
    if (c_class == 0) {
      starter = n_out;
      last_class = -1;
    } else {
      last_class = c_class;
    }
    chars[n_out++] = c;
  }
  chars.resize(n_out);
}

}  // namespace

std::string normalize(std::string_view text, NormalForm form) {
  const bool compatible = form == NormalForm::kNfkc || form == NormalForm::kNfkd;
  const bool composes = form == NormalForm::kNfc || form == NormalForm::kNfkc;
  const auto is_safe = [&](char32_t c) {
    return c < 0x80 || (form == NormalForm::kNfc && (class_of(c) & kNfcUnsafe) == 0);
  };
  std::string out;
  out.reserve(text.size());
  const char* const end = text.data() + text.size();
  const char* copied = text.data();  // Everything before is in `out`.
  const char* last_safe = nullptr;   // The safe character that the next unsafe ones may combine with.
  std::vector<char32_t> chars;
  for (const char* p = text.data(); p < end;) {
    const CharAt c = char_at(p);
    if (is_safe(c.code_point)) {
      last_safe = p;
      p += c.n_bytes;
      continue;
    }
    const char* const run = last_safe != nullptr ? last_safe : p;
    out.append(copied, run);
    chars.clear();
    const char* q = run;
    while (q < end) {
      const CharAt next = char_at(q);
      if (q != run && is_safe(next.code_point)) break;
      append_decomposed(chars, next.code_point, compatible);
      q += next.n_bytes;
    }
    sort_marks(chars);
    if (composes) compose(chars);
    for (const char32_t code_point : chars) append_utf8(out, code_point);
    copied = q;
    last_safe = nullptr;
    p = q;
  }
  out.append(copied, end);
  return out;
}

std::string lower_case(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  const char* const end = text.data() + text.size();
  for (const char* p = text.data(); p < end;) {
    const CharAt c = char_at(p);
    if (c.code_point < 0x80) {
      out.push_back(*p >= 'A' && *p <= 'Z' ? static_cast<char>(*p + 32) : *p);
    } else if (c.code_point == 0x130) {
      out += "i\xCC\x87";  // The only lower case of two characters.
    } else {
      const CasePair* const last = kLowerCase + kLowerCaseCount;
      const CasePair* const found = std::lower_bound(
          kLowerCase, last, c.code_point, [](const CasePair& pair, char32_t key) { return pair.upper < key; });
      if (found != last && found->upper == c.code_point) {
        append_utf8(out, found->lower);
      } else {
        out.append(p, c.n_bytes);
      }
    }
    p += c.n_bytes;
  }
  return out;
}

std::string strip_accents(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  const char* const end = text.data() + text.size();
  for (const char* p = text.data(); p < end;) {
    const CharAt c = char_at(p);
    if (!is_stripped(c.code_point)) out.append(p, c.n_bytes);
    p += c.n_bytes;
  }
  return out;
}

}  // namespace mobilellm::unicode
