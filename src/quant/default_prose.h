/// The fixed passages of the default calibration text.
#pragma once

#include <array>

namespace mobilellm {

inline constexpr std::array kPassages =
    {
        R"(The old lighthouse stood at the end of a narrow spit of land, where the wind never quite stopped. Every evening Marta climbed the ninety-two steps with a can of oil in one hand and a book under her arm. She had promised her father that the lamp would be lit before the first star appeared, and in eleven years she had not once been late. On clear nights she could see the fishing boats come home, each with its own small light, and she knew them all by the way they moved.)",
        R"(Plants take in carbon dioxide through tiny openings in their leaves called stomata. Inside the leaf, energy from sunlight splits water into hydrogen and oxygen. The oxygen leaves through the same openings, while the hydrogen helps to turn carbon dioxide into sugar. Because water also escapes when the stomata are open, a plant in a dry place must balance growth against thirst. Cacti solve this by opening them only at night, when the air is cool and damp.)",
        R"(Question: Why does ice float on water?
Answer: Most substances become denser when they freeze, but water is an exception. In ice the molecules are held in an open, six-sided pattern by hydrogen bonds, so the same mass takes up about nine percent more space. Because its density is lower than that of the liquid, ice floats. This matters for life in lakes: the layer of ice on top keeps the water below from freezing.)",
        R"(User: My bread comes out dense every time. What am I doing wrong?
Assistant: There are three usual causes. First, the yeast may be old; test it in warm water with a pinch of sugar, and if it does not foam within ten minutes, buy a new packet. Second, the dough may not have risen long enough. It should double in size, which can take two hours in a cold kitchen. Third, too much flour makes a stiff dough, so weigh the flour instead of using a cup. If you tell me your recipe, I can look for other problems.
User: I use 500 grams of flour and 250 grams of water.
Assistant: That is a hydration of 50 percent, which is rather dry. Try 325 grams of water and knead a little longer.)",
        R"(In 1854 an outbreak of cholera struck the Soho district of London. The physician John Snow suspected that the disease spread through drinking water and not through bad air, as most of his colleagues believed. He marked every death on a map and saw that they clustered around a single pump in Broad Street. After the handle of the pump was removed, the number of new cases fell. His map is now remembered as one of the first uses of statistics in public health.)",
        R"(To change a bicycle tube, first let out the remaining air and open the brake. Take the wheel out and slide two tyre levers under the edge of the tyre, a hand's width apart. Once one side is off, pull out the old tube and check the inside of the tyre for glass or thorns. Pump a little air into the new tube so that it keeps its shape, lay it in place, and work the tyre back over the rim with your thumbs. Finally, inflate it in steps and make sure that the tube is not pinched anywhere.)",
        R"(def binary_search(values, target):
    """Returns the index of target in a sorted list, or -1."""
    low, high = 0, len(values) - 1
    while low <= high:
        middle = (low + high) // 2
        if values[middle] == target:
            return middle
        if values[middle] < target:
            low = middle + 1
        else:
            high = middle - 1
    return -1

The loop keeps the invariant that the target, if it is in the list, lies between low and high. Each step halves the range, so at most about log2(n) + 1 comparisons are needed. A common mistake is to write low = middle, which never ends when two elements are left.)",
        R"(```cpp
#include <algorithm>
#include <iostream>
#include <vector>

int main() {
  std::vector<int> heights;
  for (int value; std::cin >> value;) heights.push_back(value);
  int best = 0;
  size_t left = 0, right = heights.empty() ? 0 : heights.size() - 1;
  while (left < right) {
    const int width = static_cast<int>(right - left);
    best = std::max(best, width * std::min(heights[left], heights[right]));
    if (heights[left] < heights[right]) ++left; else --right;
  }
  std::cout << best << '\n';
}
```
The two indices start at the ends. Moving the higher wall inwards can never help, because the area is limited by the lower one, so we always move the lower. This gives O(n) time and O(1) extra memory.)",
        R"(import collections

def word_counts(path):
    counts = collections.Counter()
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            counts.update(word.strip(".,;:!?").lower() for word in line.split())
    return counts

if __name__ == "__main__":
    for word, count in word_counts("notes.txt").most_common(10):
        print(f"{count:6d}  {word}")

The function reads the file line by line, so that a large file does not have to fit into memory. `Counter.update` adds one for each item that it is given, and `most_common` sorts by count.)",
        R"(SELECT customers.name, COUNT(orders.id) AS n_orders, SUM(orders.total) AS revenue
FROM customers
LEFT JOIN orders ON orders.customer_id = customers.id AND orders.placed_at >= '2023-01-01'
GROUP BY customers.id
HAVING COUNT(orders.id) > 2
ORDER BY revenue DESC
LIMIT 20;

The condition on the date belongs to the join. In a WHERE clause it would drop customers without orders, and the left join would behave like an inner one.)",
        R"(function debounce(callback, delay) {
  let timer = null;
  return (...args) => {
    clearTimeout(timer);
    timer = setTimeout(() => callback(...args), delay);
  };
}

const search = debounce((text) => fetch(`/api/search?q=${encodeURIComponent(text)}`), 300);
document.querySelector("#query").addEventListener("input", (event) => search(event.target.value));

Every key press starts the clock again, so the request is sent only once the user has paused for 300 milliseconds.)",
        R"(Theorem. There are infinitely many prime numbers.
Proof. Suppose there were only finitely many, p_1, p_2, ..., p_n. Consider N = p_1 p_2 ... p_n + 1. Since N > 1, it has a prime factor q. If q were one of the p_i, it would divide both N and the product, and therefore their difference, which is 1. This is impossible, so q is a prime that is not in the list. This contradiction proves the theorem.)",
        R"(We want to show by induction that 1 + 2 + ... + n = n(n + 1)/2. For n = 1 both sides are 1. Assume that the formula holds for n. Then 1 + 2 + ... + n + (n + 1) = n(n + 1)/2 + (n + 1) = (n + 1)(n/2 + 1) = (n + 1)(n + 2)/2, which is the formula for n + 1. Hence it holds for all positive integers.)",
        R"(A man is trying to open a jar in the kitchen. He wraps a towel around the lid, braces the jar against his chest and twists. When that does not work, he runs hot water over the lid for a minute. The metal expands a little more than the glass, and this time it turns. He wipes his hands, takes two spoons from the drawer and offers one to his daughter, who has been watching from the table.)",
        R"(The committee met on Tuesday to discuss the new bridge. Several members worried about the cost, which has risen by almost a third since the first estimate. The engineer explained that the price of steel was the main reason, and that a lighter design would save about two million but would need more repairs later. After a long debate the vote was seven to four in favour of the original plan. Construction is expected to begin next spring, once the river is low enough.)",
        R"(She puts the canoe on the roof of the car and ties it down with two blue straps. At the lake the water is flat and grey. First she checks the life jackets, then she pushes off from the sand and kneels in the middle. A heron lifts from the reeds as she paddles past. By noon the sun has come out, and she stops on a small island to eat a sandwich and to dry her socks on a warm stone.)",
        R"(Dear Professor Lindqvist,
Thank you for your comments on the second chapter. I agree that the argument in section three is too short, and I have added an example that shows where the assumption of independence fails. I also corrected the figure on page 41, whose axes were swapped. Could we meet next Thursday at ten to talk about the conclusion? I will bring a printed copy.
Kind regards,
Tomas)",
        R"(Let us think about this step by step. The train leaves at 9:40 and the trip takes 2 hours and 35 minutes. Adding two hours gives 11:40. Adding 35 minutes gives 12:15. But wait, the question says that the clocks go back by one hour during the trip. So the local time on arrival is 11:15. Let me check: 12:15 minus one hour is 11:15. The answer is \boxed{11:15}.)",
        R"(Inflation is a general rise in prices. When a central bank raises interest rates, borrowing becomes more expensive, so households and firms spend less. With weaker demand, sellers find it harder to increase prices. The effect is slow: economists often estimate that a change of the rate needs between one and two years to work through the economy. If the bank reacts too strongly, it may cause a recession; if it reacts too weakly, people begin to expect higher prices, and that expectation can fulfil itself.)",
        R"(System: You are a helpful assistant. Answer briefly.
User: Translate "Where is the nearest station?" into French, Spanish and German.
Assistant: French: "Ou est la gare la plus proche ?" Spanish: "Donde esta la estacion mas cercana?" German: "Wo ist der naechste Bahnhof?"
User: Which of them has grammatical gender for "station"?
Assistant: All three. It is feminine in French and Spanish, and masculine in German.)",
        R"(The human heart has four chambers. Blood that is low in oxygen enters the right atrium, passes into the right ventricle and is pumped to the lungs. There it gives up carbon dioxide and takes in oxygen. It returns to the left atrium, and the left ventricle, the strongest of the four, sends it through the aorta to the rest of the body. Valves between the chambers keep it from flowing backwards; the sound of a heartbeat is the sound of these valves closing.)",
        R"(When you paint a room, begin with the ceiling. Cover the floor and the furniture, tape the edges of the windows, and fill small holes with plaster. Use a brush for the corners and a roller for the large areas. Roll in one direction first and then across it, so that no stripes remain. Let the first coat dry for at least four hours. Remove the tape while the last coat is still a little wet; otherwise the paint may tear at the edge.)",
        R"(Multiple choice: Which of the following is a renewable source of energy?
(A) coal (B) natural gas (C) wind (D) uranium
Coal and natural gas are fossil fuels that took millions of years to form, and uranium is mined from limited deposits. Wind is driven by the sun and does not run out when it is used. Therefore the correct answer is (C).)",
        R"(The boy throws the ball high into the air and the dog runs after it across the wet grass. It slips near the fence, rolls over once and jumps up again with the ball in its mouth. The other children laugh and clap. Then the dog trots back, drops the ball in front of the smallest girl and waits, with its tail moving from side to side.)",
        R"(Version 2.3 of the tool adds a flag for reading several files at once, fixes a crash when a line is longer than 64 KB, and removes the old configuration format. To upgrade, run `pip install --upgrade tool`, then convert your settings with `tool migrate --input old.ini --output settings.toml`. If a test fails with "permission denied", check that the cache folder belongs to you. Please report problems with the output of `tool --version` and the shortest input that shows them.)",
        R"(Basketball is played by two teams of five. A shot from inside the arc counts two points, one from beyond it three, and a free throw one. A player who holds the ball must dribble to move, and may not start again after stopping. The team that has the ball must shoot within 24 seconds. Tall players have an advantage near the basket, but speed and a good eye for a pass decide many games.)",
};

}  // namespace mobilellm
