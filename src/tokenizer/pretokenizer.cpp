// The pre-tokenizer steps: each hands its pieces on to the next, the last one to the merges.
#include "tokenizer/pretokenizer.h"

#include <algorithm>
#include <cstring>

#include "tokenizer/byte_map.h"
#include "tokenizer/unicode_tables.h"
#include "tokenizer/utf8_scan.h"

namespace mobilellm {
namespace {

using unicode::kNumber;
using unicode::kPunctuation;
using unicode::kSpace;
using unicode::kWord;

struct Span {
  size_t begin;
  size_t end;
  bool is_match;
};

/// Cuts `text` as `behavior` says. next_match(begin, end) gives the matches in order.
template <typename NextMatch, typename Emit>
void split(std::string_view text, SplitBehavior behavior, bool invert, NextMatch&& next_match, Emit&& emit) {
  const auto emit_span = [&](const Span& span) {
    if (span.end > span.begin) emit(text.substr(span.begin, span.end - span.begin));
  };
  const auto for_each_span = [&](auto&& visit) {
    size_t done = 0;
    for (size_t begin = 0, end = 0; next_match(begin, end); done = end) {
      if (begin != done) visit(Span{done, begin, invert});
      visit(Span{begin, end, !invert});
    }
    if (done != text.size()) visit(Span{done, text.size(), invert});
  };
  switch (behavior) {
    case SplitBehavior::kIsolated:
      for_each_span(emit_span);
      return;
    case SplitBehavior::kRemoved:
      for_each_span([&](const Span& span) {
        if (!span.is_match) emit_span(span);
      });
      return;
    case SplitBehavior::kContiguous: {
      Span pending{0, 0, false};
      for_each_span([&](const Span& span) {
        if (span.is_match == pending.is_match) {
          pending.end = span.end;
        } else {
          emit_span(pending);
          pending = span;
        }
      });
      emit_span(pending);
      return;
    }
    case SplitBehavior::kMergedWithPrevious: {
      Span pending{0, 0, false};
      bool previous_match = false;
      for_each_span([&](const Span& span) {
        if (span.is_match && !previous_match) {
          pending.end = span.end;
        } else {
          emit_span(pending);
          pending = span;
        }
        previous_match = span.is_match;
      });
      emit_span(pending);
      return;
    }
    case SplitBehavior::kMergedWithNext: {
      // A match joins what follows it; of several in a row only the last does.
      Span pending{0, 0, false};
      bool pending_is_match = false;
      for_each_span([&](const Span& span) {
        if (pending_is_match && !span.is_match) {
          pending.end = span.end;
        } else {
          emit_span(pending);
          pending = span;
        }
        pending_is_match = span.is_match;
      });
      emit_span(pending);
      return;
    }
  }
}

/// Finds single characters for which `is_match` holds.
template <typename IsMatch>
auto character_matches(std::string_view text, IsMatch is_match) {
  return [p = text.data(), text, is_match](size_t& begin, size_t& end) mutable {
    const char* const text_end = text.data() + text.size();
    while (p < text_end) {
      const CharAt c = char_at(p);
      const char* const start = p;
      p += c.n_bytes;
      if (is_match(c.code_point)) {
        begin = static_cast<size_t>(start - text.data());
        end = begin + c.n_bytes;
        return true;
      }
    }
    return false;
  };
}

auto literal_matches(std::string_view text, std::string_view literal) {
  return [text, literal, position = size_t{0}](size_t& begin, size_t& end) mutable {
    const void* const found =
        position >= text.size() || literal.empty()
            ? nullptr
            : memmem(text.data() + position, text.size() - position, literal.data(), literal.size());
    if (found == nullptr) return false;
    begin = static_cast<size_t>(static_cast<const char*>(found) - text.data());
    end = begin + literal.size();
    position = end;
    return true;
  };
}

bool is_in_class(char32_t c, ClassStep::Class character_class) {
  const uint8_t bits = unicode::class_of(c);
  switch (character_class) {
    case ClassStep::Class::kNumber:
      return (bits & kNumber) != 0;
    case ClassStep::Class::kSpace:
      return (bits & kSpace) != 0;
    case ClassStep::Class::kPunctuation:
      // ASCII symbols such as $ and + count as punctuation, others do not.
      return (bits & kPunctuation) != 0 || (c < 0x80 && (bits & unicode::kSymbol) != 0);
  }
  return false;
}

/// The steps of one call, run piece by piece.
class Run {
 public:
  Run(const std::vector<PreTokenizerStep>& steps, const Bpe& bpe, std::vector<TokenId>& out, Bpe::Scratch& scratch)
      : steps_(steps), bpe_(bpe), out_(out), scratch_(scratch) {}

  // Depth: the number of steps, which the loader caps.
  void from(size_t step, std::string_view piece, bool at_start) {
    if (step == steps_.size()) {
      bpe_.encode_piece(piece, out_, scratch_);
      return;
    }
    std::visit([&](const auto& s) { run(s, step, piece, at_start); }, steps_[step]);
  }

 private:
  auto next_step(size_t step, std::string_view whole, bool at_start) {
    return [this, step, whole, at_start](std::string_view piece) {
      from(step + 1, piece, at_start && piece.data() == whole.data());
    };
  }

  void run(const ScanStep& s, size_t step, std::string_view piece, bool at_start) {
    const char* const end = piece.data() + piece.size();
    const bool is_last = step + 1 == steps_.size();
    for (const char* p = piece.data(); p < end;) {
      const char* const next = s.scan(p, end);
      if (is_last) {
        bpe_.encode_piece({p, next}, out_, scratch_);
      } else {
        from(step + 1, {p, next}, at_start && p == piece.data());
      }
      p = next;
    }
  }

  void run(const PatternStep& s, size_t step, std::string_view piece, bool at_start) {
    const auto emit = next_step(step, piece, at_start);
    if (s.pattern.regex) {
      Regex::Matches matches(*s.pattern.regex, piece);
      split(piece, s.behavior, s.invert, [&](size_t& begin, size_t& end) { return matches.next(begin, end); }, emit);
    } else {
      split(piece, s.behavior, s.invert, literal_matches(piece, s.pattern.literal), emit);
    }
  }

  void run(const ClassStep& s, size_t step, std::string_view piece, bool at_start) {
    const auto is_match = [&s](char32_t c) { return is_in_class(c, s.character_class); };
    split(piece, s.behavior, false, character_matches(piece, is_match), next_step(step, piece, at_start));
  }

  void run(const WordStep&, size_t step, std::string_view piece, bool at_start) {
    const auto emit = next_step(step, piece, at_start);
    const auto kind = [](char32_t c) {
      const uint8_t bits = unicode::class_of(c);
      return (bits & kWord) != 0 ? 1 : (bits & kSpace) != 0 ? 0 : 2;
    };
    const char* const end = piece.data() + piece.size();
    for (const char* p = piece.data(); p < end;) {
      const CharAt first = char_at(p);
      const int first_kind = kind(first.code_point);
      const char* q = p + first.n_bytes;
      while (q < end && kind(char_at(q).code_point) == first_kind) q += char_at(q).n_bytes;
      if (first_kind != 0) emit(std::string_view(p, static_cast<size_t>(q - p)));
      p = q;
    }
  }

  void run(const MetaspaceStep& s, size_t step, std::string_view piece, bool at_start) {
    std::string text = replace_all(piece, TextPattern{" ", std::nullopt}, s.replacement);
    const bool wants_prefix =
        s.prepend == MetaspaceStep::Prepend::kAlways || (s.prepend == MetaspaceStep::Prepend::kFirst && at_start);
    if (wants_prefix && !text.starts_with(s.replacement)) text.insert(0, s.replacement);
    if (!s.split) {
      from(step + 1, text, at_start);
      return;
    }
    split(text, SplitBehavior::kMergedWithNext, false, literal_matches(text, s.replacement),
          next_step(step, text, at_start));
  }

  void run(const PrefixSpaceStep&, size_t step, std::string_view piece, bool at_start) {
    if (piece.starts_with(' ')) {
      from(step + 1, piece, at_start);
    } else {
      const std::string text = " " + std::string(piece);
      from(step + 1, text, at_start);
    }
  }

  void run(const MapBytesStep&, size_t step, std::string_view piece, bool at_start) {
    from(step + 1, map_bytes(piece), at_start);
  }

  const std::vector<PreTokenizerStep>& steps_;
  const Bpe& bpe_;
  std::vector<TokenId>& out_;
  Bpe::Scratch& scratch_;
};

}  // namespace

void PreTokenizer::encode(std::string_view part, bool at_start, const Bpe& bpe, std::vector<TokenId>& out,
                          Bpe::Scratch& scratch) const {
  Run(steps_, bpe, out, scratch).from(0, part, at_start);
}

}  // namespace mobilellm
