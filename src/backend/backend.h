/// The seam between the engine and whatever computes: the whole forward pass over a batch of token ranges with paged
/// KV.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "model/spec.h"

namespace mobilellm {

/// One sequence's part of a batch: tokens at positions start_pos .. start_pos + tokens.size() - 1.
struct SequenceSlice {
  std::span<const int32_t> tokens;
  int64_t start_pos = 0;
  /// Page i holds positions [i * page_tokens, (i + 1) * page_tokens). Must cover every position of this slice.
  /// Earlier positions must have been computed by earlier calls with the same pages. start_pos may lie before positions
  /// that were computed already: from there on they count as never computed (rejected guesses; at most 64 of them).
  std::span<const int32_t> pages;
  int n_logits = 0;  ///< Logits are wanted for the last n_logits tokens (0 .. tokens.size()).
};

/// Runs one model. Not thread-safe: one caller at a time; it uses its own threads inside.
/// Results of a sequence are bit-identical for any split into slices, any other slices in the batch, and any thread
/// count.
class Runner {
 public:
  virtual ~Runner() = default;
  virtual const ModelSpec& spec() const = 0;
  virtual int page_tokens() const = 0;
  /// Bytes of a token's keys and values in all layers.
  virtual size_t kv_bytes_per_token() const = 0;
  /// How many of them are given back when the windows of layers that have one have passed.
  virtual size_t window_bytes_per_token() const { return 0; }
  /// Makes page ids 0 .. n_pages - 1 usable; never shrinks. Throws kResourceLimit when memory is refused.
  virtual void reserve_pages(int n_pages) = 0;
  virtual void copy_page(int from, int to) = 0;
  /// Layers with a window will not read this page again before it is written anew: their memory may be used otherwise.
  virtual void forget_window(int page) { (void)page; }
  /// Writes f32 logits [sum of n_logits, vocab_size] in batch order.
  /// Throws kInvalidArgument for token ids outside the vocabulary.
  virtual void forward(std::span<const SequenceSlice> batch, float* logits) = 0;

  /// Called with the residual stream [n_tokens, d_model] before layer 0 (index 0), after layer i (index i + 1) and
  /// after the final norm (index n_layers + 1), for tests against a reference. Empty = off.
  using HiddenObserver = std::function<void(int index, std::span<const float> hidden)>;
  // NOLINTNEXTLINE(performance-unnecessary-value-param): a runner that supports it keeps the function.
  virtual void set_hidden_observer(HiddenObserver observer) { (void)observer; }
};

/// How keys and values are stored. Arithmetic on them is f32, but with kI16.
enum class KvDtype : uint8_t {
  kAuto,  ///< kI16; kF32 with is_exact.
  kF32,
  kF16,  ///< What is too large for f16 is stored as the largest number.
  kI16,  ///< 13 bits with sign and a scale per position and head; queries and weights become integers too.
  kQ8,   ///< One byte each, with a scale per position and head.
};

struct RunnerOptions {
  int n_threads = 0;  ///< 0 = every core this process may use.
  KvDtype kv_dtype = KvDtype::kAuto;
  /// Multiply quantized weights with f32 activations, as the reference does, instead of activations in 8 bits per
  /// block.
  bool is_exact = false;
  /// Called with progress in [0, 1] while weights are prepared; return false to cancel (kCancelled).
  std::function<bool(double)> on_progress;
};

}  // namespace mobilellm
