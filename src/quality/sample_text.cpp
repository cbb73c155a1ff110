// Text and questions for a first look at a model.
#include "quality/sample_text.h"

namespace mobilellm {

const char* const kSampleText =
    R"(Problem: A bakery sells bread rolls in bags of 6 and bags of 10. On Saturday it sold 14 small bags and 9 large ones. Each roll costs 0.35 euros. How much money did it take?
Solution: The small bags held 14 * 6 = 84 rolls and the large bags held 9 * 10 = 90 rolls. Together that is 84 + 90 = 174 rolls. At 0.35 euros a roll the bakery took 174 * 0.35 = 60.90 euros. The answer is \boxed{60.90}.

Problem: Find all real numbers x with x^2 - 5x + 6 = 0.
Solution: We look for two numbers whose product is 6 and whose sum is 5. They are 2 and 3, so x^2 - 5x + 6 = (x - 2)(x - 3). A product is zero exactly when one of its factors is zero, hence x = 2 or x = 3. Check: 4 - 10 + 6 = 0 and 9 - 15 + 6 = 0. The solutions are \boxed{2, 3}.

Problem: A train leaves at 9:40 and drives 150 kilometres at an average speed of 60 kilometres per hour. When does it arrive?
Solution: The journey takes 150 / 60 = 2.5 hours, which is 2 hours and 30 minutes. Two hours after 9:40 it is 11:40, and half an hour later it is 12:10. The train arrives at \boxed{12:10}.

The following function returns the greatest common divisor of two numbers. It uses the fact that a common divisor of a and b also divides the remainder of a divided by b, so the pair can be made smaller until one of the numbers is zero.

def gcd(a, b):
    while b != 0:
        a, b = b, a % b
    return abs(a)

print(gcd(48, 18))  # 6
print(gcd(17, 5))   # 1

Rivers change their beds over the years. Where the water bends, it flows faster on the outer side and carries soil away, while sand and gravel settle on the inner side. The bend grows, until at last a flood breaks through its narrow neck and the river takes the shorter way. The old loop remains as a lake, which slowly fills with mud and reeds. On a map one can often read where a river used to be: a curved lake, a row of willows, a border between two villages that follows a line nobody can see any more.

Problem: In a class of 28 pupils, three quarters have a pet. Of these, one third have a dog. How many pupils have a dog?
Solution: Three quarters of 28 are 28 * 3 / 4 = 21 pupils with a pet. One third of them, 21 / 3 = 7 pupils, have a dog. The answer is \boxed{7}.

Problem: Show that the sum of two odd numbers is even.
Solution: An odd number has the form 2k + 1 with an integer k. Let the numbers be 2k + 1 and 2m + 1. Their sum is 2k + 1 + 2m + 1 = 2k + 2m + 2 = 2(k + m + 1), which is twice an integer and therefore even.

To count how often each word occurs in a text, go through the words one by one and keep a table. When a word is already in the table, add one to its count; when it is new, enter it with a count of one. At the end, sort the table by count. With a hash table this takes time proportional to the number of words, plus the time for sorting the different ones.

Problem: A rectangle is three times as long as it is wide, and its perimeter is 64 centimetres. What is its area?
Solution: Let w be the width. The length is 3w, and the perimeter is 2(w + 3w) = 8w = 64, so w = 8 and the length is 24. The area is 8 * 24 = 192 square centimetres. The answer is \boxed{192}.
)";

std::span<const char* const> sample_questions() {
  static const char* const kQuestions[] = {
      "What is 17 + 26? Answer with a short explanation.",
      "A box holds 12 eggs. How many eggs are in 5 boxes?",
      "Name three things that plants need to grow.",
      "Write a Python function that returns the larger of two numbers.",
      "Explain in two sentences why the sky looks blue.",
  };
  return kQuestions;
}

}  // namespace mobilellm
