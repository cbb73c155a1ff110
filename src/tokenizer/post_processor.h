/// Post-processors of tokenizer.json: special tokens around one or two texts.
#pragma once

#include <cstdint>
#include <vector>

#include "tokenizer/tokenizer.h"

namespace mobilellm {

struct TemplatePiece {
  int sequence = -1;  ///< 0: the first text, 1: the second, -1: `ids`.
  std::vector<TokenId> ids;
  int32_t type_id = 0;
};

/// Without templates the texts stand alone, the first with type id 0, the second with 1.
struct PostProcessor {
  bool has_template = false;
  std::vector<TemplatePiece> single;
  std::vector<TemplatePiece> pair;
};

}  // namespace mobilellm
