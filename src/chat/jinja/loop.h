/// The `loop` variable of a for loop.
#pragma once

#include "chat/jinja/value.h"

namespace mobilellm::jinja {

struct Statement;
struct Frame;

class Loop : public Heap {
 public:
  Loop(Budget* budget, std::vector<Value> loop_items, int64_t depth)
      : Heap(budget, sizeof(Loop) + loop_items.size() * sizeof(Value)),
        items(std::move(loop_items)),
        n_items(static_cast<int64_t>(items.size())),
        depth0(depth) {}
  int64_t length() const { return n_items; }

  /// After the loop has ended: lets go of all values (a loop may hold itself through `changed`).
  void close() {
    items.clear();
    last_changed = {};
    statement = nullptr;
    frame = nullptr;
  }

  std::vector<Value> items;
  int64_t n_items;
  int64_t index0 = 0;
  int64_t depth0;
  Value last_changed;                    ///< The arguments of the last loop.changed() call, as a tuple.
  const Statement* statement = nullptr;  ///< Of a recursive loop: what calling the loop runs again.
  Frame* frame = nullptr;                ///< Where the recursive loop stands.
};

}  // namespace mobilellm::jinja
