/// How often drafted tokens turn out right, learnt from those that did and did not.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

namespace mobilellm {

/// A rate for each class of drafted tokens, e.g. by the length of the match that foretold them. Recent tokens count
/// more. Rates of one sequence lean on those of all sequences until it has shown its own.
class AcceptanceRates {
 public:
  /// `expected[c]` is the rate of class c before anything was seen, in (0, 1).
  explicit AcceptanceRates(std::span<const double> expected);
  /// For one sequence; `shared` must outlive it.
  explicit AcceptanceRates(const AcceptanceRates* shared);

  void record(size_t index, bool is_right);
  /// Probability that a token of this class is right, in (0, 1).
  double rate(size_t index) const;

 private:
  struct Counts {
    double n = 0;
    double n_right = 0;
  };
  const AcceptanceRates* shared_ = nullptr;
  std::vector<double> expected_;
  std::vector<Counts> counts_;
};

}  // namespace mobilellm
