/// Text to measure a model with: files cut into chunks of token ids.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "model/loader.h"

namespace mobilellm {

struct TextSetOptions {
  int64_t chunk_tokens = 512;  ///< At least 2: the first id of a chunk is not predicted.
  int64_t max_chunks = 0;      ///< Of each file; 0 = all.
};

/// One file.
struct TextSet {
  std::string path;
  std::vector<std::vector<int32_t>> chunks;  ///< Consecutive, without BOS, each of chunk_tokens ids but see below.
  int64_t n_left_out = 0;                    ///< Ids at the end that are in no chunk.
};

/// The text of a file: UTF-8 as it is; of a name that ends in .jsonl the value of "text" in each row, a blank line
/// between rows, or "messages" as the chat template renders them. Throws kCorruptData for ill-formed UTF-8 or rows,
/// kInvalidArgument for messages without a template, what read_file() throws.
std::string read_text(const std::string& path, const LoadedText& text);

/// Ids that fill no whole chunk are left out, except in a file that has no whole chunk and at least two ids.
/// Throws as read_text() does, and kInvalidArgument for options out of range or a file with fewer than two ids.
TextSet read_text_set(const std::string& path, const LoadedText& text, const TextSetOptions& options);

}  // namespace mobilellm
