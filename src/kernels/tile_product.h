// Products of spread-out panels with many tokens on matrix tiles; included by panel_product.h where a tile header came
// before it.
//
// A tile instruction gives the exact integer sums of 16 tokens, 16 rows and the 32 (or 16) columns that share a scale.
// Scaling and adding them is the same arithmetic as in product_tile(), so the bits are the same; it takes about twice
// as long as the tiles do. So both run at once: while the sums of some blocks are scaled, the tiles work on the next.
#include "kernels/panels.h"

namespace {

constexpr int kTileTokenRows = 16;
// Parts (blocks, or their halves) whose sums are made at a time: twice 8 KiB wait in the first-level cache.
constexpr int kTileChunkParts = 4;
// Tokens whose totals stay in registers: 8 x 2 vectors.
constexpr int kTileScaleTokens = 8;

// Sums of 16 tokens: [part][vector of rows][token][row].
template <int kVectors>
struct alignas(64) TileSums {
  int32_t v[kTileChunkParts][kVectors][kTileTokenRows * kLanes];
};

// What is multiplied in one go: tokens [token, token + 16) and blocks counted from the begin of a spread range.
struct TileChunk {
  int64_t token;
  BlockRange blocks;
  bool is_first;  // Of its tokens.
  bool is_last;
};

template <int kHalves, int kVectors>
class TileProduct {
 public:
  TileProduct(const PanelProductArgs& a, const SpreadRows* rows, int row, BlockRange range)
      : a_(a), rows_(rows), row_(row), range_(range), tiles_(kBlockCols / kHalves) {}

  // All whole sixteens of tokens from `token` on.
  void run(int& token) {
    const int64_t n_groups = (a_.n_tokens - token) / kTileTokenRows;
    const int64_t n_chunks = (range_.end - range_.begin + kChunkBlocks - 1) / kChunkBlocks;
    const auto chunk_at = [&](int64_t index) {
      const int64_t begin = index % n_chunks * kChunkBlocks;
      const int64_t end = begin + kChunkBlocks;
      const int64_t n_blocks = range_.end - range_.begin;
      return TileChunk{token + index / n_chunks * kTileTokenRows,
                       {begin, end < n_blocks ? end : n_blocks},
                       begin == 0,
                       end >= n_blocks};
    };
    if (n_groups <= 0) return;
    begin_chunk(chunk_at(0), sums_[0]);
    finish_chunk();
    for (int64_t index = 0; index < n_groups * n_chunks; ++index) {
      if (index + 1 < n_groups * n_chunks) begin_chunk(chunk_at(index + 1), sums_[(index + 1) & 1]);
      const TileChunk chunk = chunk_at(index);
      for (int first = 0; first < kTileTokenRows; first += kTileScaleTokens) scale(chunk, sums_[index & 1], first);
      finish_chunk();
    }
    token += static_cast<int>(n_groups) * kTileTokenRows;
  }

 private:
  using Sums = TileSums<kVectors>;
  static constexpr int kChunkBlocks = kTileChunkParts / kHalves;

  void begin_chunk(const TileChunk& chunk, Sums& sums) {
    next_ = chunk;
    next_sums_ = &sums;
    step_ = 0;
    n_steps_ = static_cast<int>(chunk.blocks.end - chunk.blocks.begin) * kHalves * kVectors;
  }
  void finish_chunk() {
    while (step_ < n_steps_) multiply_next();
  }
  // One tile product of the chunk that was begun.
  void multiply_next() {
    if (step_ == n_steps_) return;
    const int part = step_ / kVectors;
    const int64_t block = next_.blocks.begin + part / kHalves;
    const int half = part % kHalves;
    if (step_ % kVectors == 0) {
      const int64_t n_blocks = a_.layout->n_blocks;
      const int64_t at = next_.token * n_blocks + range_.begin + block;
      tiles_.template load_tokens<0>(a_.x.codes + at * kBlockCols + half * (kBlockCols / kHalves),
                                     n_blocks * kBlockCols);
      multiply_vector<0>(block, half, part);
    } else {
      multiply_vector<kVectors - 1>(block, half, part);
    }
    ++step_;
  }
  template <int kVector>
  void multiply_vector(int64_t block, int half, int part) {
    tiles_.template load_codes<kVector>(rows_[kVector].step(block, half * (kStepsPerBlock / kHalves)));
    tiles_.template multiply<0, kVector>(next_sums_->v[part][kVector]);
  }

  // Adds the scaled sums of a chunk to the totals of some of its tokens.
  void scale(const TileChunk& chunk, const Sums& sums, int first) {
    const PanelLayout& layout = *a_.layout;
    const int64_t n_blocks = layout.n_blocks;
    const int64_t token = chunk.token + first;
    const float* scales = a_.x.scales + token * n_blocks + range_.begin;
    const int32_t* zeros = a_.x.zeros + token * n_blocks + range_.begin;
    const float* x_sums = a_.x.sums + token * n_blocks + range_.begin;
    Vec16 total[kTileScaleTokens][kVectors];
    load_totals(chunk, first, total);
    for (int64_t block = chunk.blocks.begin; block < chunk.blocks.end; ++block) {
#pragma GCC unroll 2
      for (int half = 0; half < kHalves; ++half) {
        multiply_next();
        const auto& part = sums.v[(block - chunk.blocks.begin) * kHalves + half];
        Vec16 scale[kVectors];
        CodeSums code_sums[kVectors];
#pragma GCC unroll 2
        for (int p = 0; p < kVectors; ++p) {
          scale[p] = rows_[p].scale(block, half);
          code_sums[p] = rows_[p].code_sums(block, half);
        }
#pragma GCC unroll 8
        for (int t = 0; t < kTileScaleTokens; ++t) {
          const Vec16 s = Vec16::set1(scales[t * n_blocks + block]);
          const int32_t zero = zeros[t * n_blocks + block];
#pragma GCC unroll 2
          for (int p = 0; p < kVectors; ++p) {
            total[t][p] =
                Vec16::fma(scale[p] * s, Tiles::plus(part[p] + (first + t) * kLanes, code_sums[p], zero), total[t][p]);
          }
        }
      }
      if (layout.has_bias) {
        Vec16 bias[kVectors];
#pragma GCC unroll 2
        for (int p = 0; p < kVectors; ++p) bias[p] = rows_[p].bias(block);
#pragma GCC unroll 8
        for (int t = 0; t < kTileScaleTokens; ++t) {
          const Vec16 sum = Vec16::set1(x_sums[t * n_blocks + block]);
#pragma GCC unroll 2
          for (int p = 0; p < kVectors; ++p) total[t][p] = Vec16::fma(bias[p], sum, total[t][p]);
        }
      }
    }
    store_totals(chunk, first, total);
  }

  // Totals wait in totals_ between chunks and in y between spread ranges.
  void load_totals(const TileChunk& chunk, int first, Vec16 (&total)[kTileScaleTokens][kVectors]) const {
#pragma GCC unroll 8
    for (int t = 0; t < kTileScaleTokens; ++t) {
#pragma GCC unroll 2
      for (int p = 0; p < kVectors; ++p) {
        const int row = row_ + p * kLanes;
        if (!chunk.is_first) {
          total[t][p] = Vec16::load(totals_[first + t][p]);
        } else if (range_.begin == 0 || row >= a_.n_rows) {
          total[t][p] = Vec16::zero();
        } else {
          total[t][p] = load_rows(a_.y + (chunk.token + first + t) * a_.y_stride + row, a_.n_rows - row);
        }
      }
    }
  }
  void store_totals(const TileChunk& chunk, int first, const Vec16 (&total)[kTileScaleTokens][kVectors]) {
    const bool has_bias = a_.bias != nullptr && range_.end == a_.layout->n_blocks;
#pragma GCC unroll 8
    for (int t = 0; t < kTileScaleTokens; ++t) {
#pragma GCC unroll 2
      for (int p = 0; p < kVectors; ++p) {
        const int row = row_ + p * kLanes;
        if (!chunk.is_last) {
          total[t][p].store(totals_[first + t][p]);
        } else if (row < a_.n_rows) {
          Vec16 result = total[t][p];
          if (has_bias) result = result + load_rows(a_.bias + row, a_.n_rows - row);
          store_rows(result, a_.y + (chunk.token + first + t) * a_.y_stride + row, a_.n_rows - row);
        }
      }
    }
  }

  const PanelProductArgs& a_;
  const SpreadRows* rows_;
  int row_;
  BlockRange range_;
  Tiles tiles_;
  TileChunk next_{};
  Sums* next_sums_ = nullptr;
  int step_ = 0;
  int n_steps_ = 0;
  Sums sums_[2];
  alignas(64) float totals_[kTileTokenRows][kVectors][kLanes];
};

}  // namespace
