/// Pre-tokenizers of tokenizer.json: cut normalized text into the pieces that merges stay within.
#pragma once

#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "tokenizer/bpe.h"
#include "tokenizer/normalizer.h"
#include "tokenizer/split_scanners.h"

namespace mobilellm {

/// What happens to the matches of a split pattern.
enum class SplitBehavior { kRemoved, kIsolated, kMergedWithPrevious, kMergedWithNext, kContiguous };

/// A well-known expression whose matches touch and are all kept.
struct ScanStep {
  ScanFunction scan;
};
struct PatternStep {
  TextPattern pattern;
  SplitBehavior behavior;
  bool invert;  ///< Matches and the text between them change roles.
};
/// Matches single characters of a class.
struct ClassStep {
  enum class Class { kNumber, kPunctuation, kSpace };
  Class character_class;
  SplitBehavior behavior;
};
/// \w+|[^\w\s]+, the rest removed.
struct WordStep {};
struct MetaspaceStep {
  enum class Prepend { kAlways, kFirst, kNever };
  std::string replacement;
  Prepend prepend;
  bool split;
};
/// A space in front of every part that does not start with one.
struct PrefixSpaceStep {};
/// Bytes as characters, where the vocabulary is matched as text.
struct MapBytesStep {};

using PreTokenizerStep =
    std::variant<ScanStep, PatternStep, ClassStep, WordStep, MetaspaceStep, PrefixSpaceStep, MapBytesStep>;

class PreTokenizer {
 public:
  PreTokenizer() = default;
  explicit PreTokenizer(std::vector<PreTokenizerStep> steps) : steps_(std::move(steps)) {}

  /// Appends the ids of every piece of one part between added tokens. `at_start`: it begins the whole text.
  void encode(std::string_view part, bool at_start, const Bpe& bpe, std::vector<TokenId>& out,
              Bpe::Scratch& scratch) const;

 private:
  std::vector<PreTokenizerStep> steps_;
};

}  // namespace mobilellm
