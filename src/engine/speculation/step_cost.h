/// What a step costs that carries drafted tokens, compared with one that does not: measured while generating.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <vector>

namespace mobilellm {

/// Times of forward passes over n sequences with one token each and a number of drafted tokens more. The time of a
/// plain step follows the machine's state and the depth of the texts quickly, the ratios to it slowly.
class StepCost {
 public:
  static constexpr int kMaxDrafted = 256;

  /// Seconds of a step with n_sequences >= 1 and n_drafted >= 0 tokens more.
  void record(int n_sequences, int n_drafted, double seconds);

  /// Expected cost in units of a plain step of as many sequences: 1 for none drafted. Lengths that were never tried are
  /// judged by those that were.
  double ratio(int n_sequences, int n_drafted) const;
  /// Seconds of a plain step; 0 when none was seen.
  double plain_seconds(int n_sequences) const;
  /// Plain steps that were seen.
  int n_plain(int n_sequences) const;

 private:
  static double expected_ratio(int n_sequences, int n_drafted);

  struct Ratio {
    int n_seen = 0;
    double log_ratio = 0;
  };
  struct Situation {
    int n_seen = 0;
    double log_plain = 0;
    std::map<int, Ratio> ratios;  // By number of drafted tokens.
  };

  std::map<int, Situation> situations_;  // By class of the number of sequences.
};

}  // namespace mobilellm
