/// Whether and how the engine guesses tokens ahead. Never changes results.
#pragma once

#include <cstdint>

#include "backend/backend.h"

namespace mobilellm {

enum class SpeculationMode : uint8_t {
  kOff,
  kLookup,  ///< Guesses from what the sequence, its prompt and other samples of the prompt have said.
  kAuto,    ///< The same, and the draft model when there is one.
};

inline constexpr int kMaxDraft = 64;

struct SpeculationOptions {
  SpeculationMode mode = SpeculationMode::kOff;
  int max_draft = 32;             ///< Most guesses per sequence and step, 1 .. kMaxDraft. How many pay is measured.
  bool is_eager = false;          ///< Guess as much as max_draft allows even where it costs time: for tests.
  Runner* draft_model = nullptr;  ///< A small model with the same vocabulary; not owned, used by this engine alone.
};

/// Over the life of an engine.
struct SpeculationStats {
  uint64_t n_steps = 0;     ///< Steps with drafted tokens.
  uint64_t n_drafted = 0;   ///< Tokens that were guessed and computed.
  uint64_t n_accepted = 0;  ///< Those of them that were right.
};

}  // namespace mobilellm
