/// The panels of all quantized weights of a model, in one piece of memory.
#pragma once

#include <functional>
#include <vector>

#include "backend/cpu/linear.h"
#include "base/huge_memory.h"
#include "base/thread_pool.h"

namespace mobilellm {

class PanelStore {
 public:
  PanelStore() = default;
  /// Packs those of `linears` whose format is made of integers and makes them use their panels. What has been packed is
  /// released from `source`, so that memory holds a weight once. Throws kCancelled when `on_progress` returns false.
  PanelStore(const std::vector<Linear*>& linears, const WeightSource& source, ThreadPool& pool,
             const std::function<bool(double)>& on_progress);

 private:
  HugeMemory memory_;
};

}  // namespace mobilellm
