/// Character classes, decompositions and case pairs of Unicode 16 (data: unicode_tables.cpp, generated).
#pragma once

#include <cstddef>
#include <cstdint>

namespace mobilellm::unicode {

// Bits of a class byte.
inline constexpr uint8_t kLetter = 1;        ///< L
inline constexpr uint8_t kNumber = 2;        ///< N
inline constexpr uint8_t kMark = 4;          ///< M
inline constexpr uint8_t kSpace = 8;         ///< White_Space
inline constexpr uint8_t kPunctuation = 16;  ///< P
inline constexpr uint8_t kSymbol = 32;       ///< S
inline constexpr uint8_t kWordOther = 64;    ///< In \w besides L and M: Nd, Nl, Pc, joiners, alphabetic symbols.
inline constexpr uint8_t kNfcUnsafe = 128;   ///< NFC may change it or combine it with what stands before.

inline constexpr uint8_t kWord = kLetter | kMark | kWordOther;

extern const uint8_t kClassIndex[4352];
extern const uint8_t kClassData[];

/// Class bits of a code point (0 for values above U+10FFFF is not promised: callers pass decoded characters).
inline uint8_t class_of(char32_t c) { return kClassData[size_t{kClassIndex[c >> 8]} * 256 + (c & 255)]; }

/// Decompositions as start << 5 | length in kDecomposed (0 = none), and the canonical combining class.
struct NormalRecord {
  uint32_t canonical;
  uint32_t compatible;
  uint8_t combining_class;
};
extern const uint8_t kNormalIndex[4352];
extern const uint16_t kNormalData[];
extern const NormalRecord kNormalRecords[];
extern const char32_t kDecomposed[];

inline const NormalRecord& normal_record(char32_t c) {
  return kNormalRecords[kNormalData[size_t{kNormalIndex[c >> 8]} * 256 + (c & 255)]];
}

/// Canonical compositions sorted by (first, second).
struct Composition {
  char32_t first;
  char32_t second;
  char32_t composed;
};
extern const Composition kCompositions[];
extern const size_t kCompositionCount;

/// Simple lower case of non-ASCII characters, sorted by upper.
struct CasePair {
  char32_t upper;
  char32_t lower;
};
extern const CasePair kLowerCase[];
extern const size_t kLowerCaseCount;

}  // namespace mobilellm::unicode
