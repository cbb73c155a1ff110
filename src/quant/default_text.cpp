// Templates of problems, filled with numbers, between the fixed passages.
#include "quant/default_text.h"

#include <fmt/core.h>

#include <array>
#include <cstdint>
#include <numeric>
#include <string_view>

#include "base/random.h"
#include "quant/default_prose.h"

namespace mobilellm {
namespace {

constexpr int kRounds = 24;

constexpr std::array kNames = {"Anna",   "Ben",   "Carla", "David", "Elena", "Farid", "Grace", "Hiro",
                               "Ingrid", "Jamal", "Kofi",  "Lucia", "Mei",   "Noah",  "Olga",  "Pavel"};
constexpr std::array kThings = {"apples",  "stickers", "notebooks", "marbles", "candles", "cards",
                                "pencils", "flowers",  "coins",     "cookies", "bottles", "tickets"};

// Draws that depend on how many were made before.
class Draws {
 public:
  int64_t number(int64_t low, int64_t high) {
    return low + static_cast<int64_t>(random_bits(2026, 0, next_++) % static_cast<uint64_t>(high - low + 1));
  }
  std::string_view name() { return kNames[static_cast<size_t>(number(0, kNames.size() - 1))]; }
  std::string_view thing() { return kThings[static_cast<size_t>(number(0, kThings.size() - 1))]; }

 private:
  uint64_t next_ = 0;
};

std::string shopping(Draws& draw) {
  const int64_t n = draw.number(3, 19), price = draw.number(2, 15), paid = n * price + draw.number(1, 40);
  const std::string_view name = draw.name(), thing = draw.thing();
  return fmt::format(
      "Question: {0} buys {2} {1} that cost ${3} each and pays with ${4}. How much change does {0} get?\n"
      "Answer: The {1} cost {2} * {3} = ${5} in total. The change is {4} - {5} = ${6}.\nThe final answer is "
      "\\boxed{{{6}}}.\n",
      name, thing, n, price, paid, n * price, paid - n * price);
}

std::string sharing(Draws& draw) {
  const int64_t each = draw.number(4, 25), friends = draw.number(3, 9), given = draw.number(2, 30);
  const std::string_view name = draw.name(), thing = draw.thing();
  return fmt::format(
      "{0} has {2} {1}. After giving {3} of them to a neighbour, {0} shares the rest equally among {4} friends. How "
      "many {1} does each friend receive?\n\nFirst we find how many are left: {2} - {3} = {5}. Then we divide by the "
      "number of friends: {5} / {4} = {6}. So each friend receives \\boxed{{{6}}} {1}.\n",
      name, thing, each * friends + given, given, friends, each * friends, each);
}

std::string travel(Draws& draw) {
  const int64_t speed = draw.number(4, 22) * 5, hours = draw.number(2, 7), more = draw.number(1, 4);
  return fmt::format(
      "Problem: A bus drives at {0} km/h for {1} hours, rests, and then drives for another {2} hours at {3} km/h. What "
      "is its average speed while moving?\nSolution: In the first part it covers {0} * {1} = {4} km, in the second {3} "
      "* {2} = {5} km. Together that is {6} km in {7} hours, so the average speed is $\\frac{{{6}}}{{{7}}} \\approx "
      "{8:.1f}$ km/h.\n",
      speed, hours, more, speed + 10, speed * hours, (speed + 10) * more, speed * hours + (speed + 10) * more,
      hours + more, static_cast<double>(speed * hours + (speed + 10) * more) / static_cast<double>(hours + more));
}

std::string linear_equation(Draws& draw) {
  const int64_t x = draw.number(-12, 12), a = draw.number(2, 9), b = draw.number(1, 30), c = draw.number(2, 5);
  return fmt::format(
      "Solve for $x$: ${0}x + {1} = {2}x + {3}$.\nSubtracting ${2}x$ from both sides gives ${4}x + {1} = {3}$. "
      "Subtracting {1} gives ${4}x = {5}$, and dividing by {4} we get $x = {6}$. Check: ${0} \\cdot ({6}) + {1} = {7}$ "
      "and ${2} \\cdot ({6}) + {3} = {7}$. Therefore, $x = \\boxed{{{6}}}$.\n",
      a + c, b, c, a * x + b, a, a * x, x, (a + c) * x + b);
}

std::string quadratic(Draws& draw) {
  const int64_t r = draw.number(1, 9), s = draw.number(1, 9);
  return fmt::format(
      "Find the sum of the squares of the roots of $x^2 - {0}x + {1} = 0$.\n\nLet the roots be $r$ and $s$. By Vieta's "
      "formulas, $r + s = {0}$ and $rs = {1}$. Then\n\\[r^2 + s^2 = (r + s)^2 - 2rs = {0}^2 - 2 \\cdot {1} = {2} - {3} "
      "= {4}.\\]\nWe can also factor: $x^2 - {0}x + {1} = (x - {5})(x - {6})$, so the roots are {5} and {6}, and "
      "$\\boxed{{{4}}}$ is correct.\n",
      r + s, r * s, (r + s) * (r + s), 2 * r * s, r * r + s * s, r, s);
}

std::string probability(Draws& draw) {
  const int64_t red = draw.number(2, 9), blue = draw.number(2, 9), all = red + blue;
  const int64_t top = red * (red - 1), bottom = all * (all - 1), common = std::gcd(top, bottom);
  return fmt::format(
      "A bag holds {0} red and {1} blue balls. Two balls are drawn without replacement. What is the probability that "
      "both are red? Express your answer as a common fraction.\n\nThe first ball is red with probability "
      "$\\frac{{{0}}}{{{2}}}$. Given that, the second is red with probability $\\frac{{{3}}}{{{4}}}$. Multiplying, we "
      "obtain $\\frac{{{0}}}{{{2}}} \\cdot \\frac{{{3}}}{{{4}}} = \\frac{{{5}}}{{{6}}} = "
      "\\boxed{{\\frac{{{7}}}{{{8}}}}}$.\n",
      red, blue, all, red - 1, all - 1, top, bottom, top / common, bottom / common);
}

std::string remainder(Draws& draw) {
  const int64_t base = draw.number(2, 9), power = draw.number(20, 90), modulus = draw.number(5, 13);
  int64_t value = 1;
  std::string steps;
  for (int64_t i = 0; i < power; ++i) {
    value = value * base % modulus;
    if (i < 5) steps += fmt::format("{}{}^{} = {}", i == 0 ? "" : ", ", base, i + 1, value);
  }
  return fmt::format(
      "What is the remainder when ${0}^{{{1}}}$ is divided by {2}?\nWe compute the first powers modulo {2}: {3}. Since "
      "there are finitely many residues, the powers repeat; reducing the exponent by the length of the cycle, we find "
      "that the remainder is $\\boxed{{{4}}}$.\n",
      base, power, modulus, steps, value);
}

std::string geometry(Draws& draw) {
  constexpr std::array<std::array<int64_t, 3>, 4> kTriples = {{{3, 4, 5}, {5, 12, 13}, {8, 15, 17}, {7, 24, 25}}};
  const auto& triple = kTriples[static_cast<size_t>(draw.number(0, 3))];
  const int64_t k = draw.number(1, 6);
  return fmt::format(
      "In right triangle $ABC$ with $\\angle C = 90^\\circ$, $AC = {0}$ and $BC = {1}$. Find the radius of the "
      "inscribed "
      "circle.\n\nBy the Pythagorean theorem, $AB = \\sqrt{{{0}^2 + {1}^2}} = {2}$. The area is $\\frac12 \\cdot {0} "
      "\\cdot {1} = {3}$ and the semiperimeter is ${4}$. Since area equals inradius times semiperimeter, $r = "
      "\\frac{{{3}}}{{{4}}} = \\boxed{{{5}}}$.\n",
      triple[0] * k, triple[1] * k, triple[2] * k, triple[0] * triple[1] * k * k / 2,
      (triple[0] + triple[1] + triple[2]) * k / 2, (triple[0] + triple[1] - triple[2]) * k / 2);
}

std::string tracing(Draws& draw) {
  const int64_t n = draw.number(4, 9), step = draw.number(2, 5);
  std::string lines;
  int64_t total = 0;
  for (int64_t i = 1; i <= n; i += step) {
    total += i * i;
    lines += fmt::format("After i = {}: total = {}.\n", i, total);
  }
  return fmt::format(
      "What does this program print?\n```python\ntotal = 0\nfor i in range(1, {}, {}):\n    total += i * i\n"
      "print(total)\n```\nLet me trace the loop. {}The loop ends, so the program prints {}.\n",
      n + 1, step, lines, total);
}

std::string dialogue(Draws& draw) {
  const int64_t age = draw.number(6, 30), gap = draw.number(2, 25);
  const std::string_view one = draw.name();
  return fmt::format(
      "user\n{0}'s sister is {1} years older than {0}. In {2} years the sister will be {3}. How old is {0} now?\n"
      "assistant\nOkay, let me see. In {2} years the sister is {3}, so now she is {3} - {2} = {4}. She is {1} years "
      "older, so {0} is {4} - {1} = {5}. Wait, I should check this: {5} + {1} = {4}, and {4} + {2} = {3}. Yes, that "
      "works.\n\n**Answer:** \\boxed{{{5}}}\n",
      one, gap, gap / 2 + 1, age + gap + gap / 2 + 1, age + gap, age);
}

}  // namespace

std::string default_calibration_text() {
  constexpr std::array kTemplates = {shopping,  sharing,     travel,   linear_equation, quadratic,
                                     remainder, probability, geometry, tracing,         dialogue};
  Draws draw;
  std::string text;
  for (int round = 0; round < kRounds; ++round) {
    for (size_t i = 0; i < kTemplates.size(); ++i) {
      text += kTemplates[(i * 3 + static_cast<size_t>(round)) % kTemplates.size()](draw) + "\n";
      const size_t slot = static_cast<size_t>(round) * kTemplates.size() + i;
      if (slot % 4 == 0) text += std::string(kPassages[slot / 4 % kPassages.size()]) + "\n\n";
    }
  }
  return text;
}

}  // namespace mobilellm
