// Products of spread-out panels with many tokens on matrix tiles; included by panel_product.h where a tile header came
// before it.
//
// A tile instruction gives the exact integer sums of 16 tokens, 16 rows and the 64, 32 or 16 columns that share scales.
// Scaling and adding them is the same arithmetic as in product_tile(), so the bits are the same; it takes about twice
// as long as the tiles do. So both run at once: while the sums of some strips are scaled, the tiles work on the next.
#include "kernels/panels.h"

namespace {

constexpr int kTileTokenRows = 16;
// Parts of strips whose sums are made at a time: twice 8 KiB wait in the first-level cache.
constexpr int kTileChunkParts = 4;
// Tokens whose totals stay in registers: 8 x 2 vectors.
constexpr int kTileScaleTokens = 8;

// Sums of 16 tokens: [part][vector of rows][token][row].
template <int kVectors>
struct alignas(64) TileSums {
  int32_t v[kTileChunkParts][kVectors][kTileTokenRows * kLanes];
};

// What is multiplied in one go: tokens [token, token + 16) and strips counted from the begin of a spread range.
struct TileChunk {
  int64_t token;
  StripRange strips;
  bool is_first;  // Of its tokens.
  bool is_last;
};

template <int kParts, int kVectors>
class TileProduct {
 public:
  TileProduct(const PanelProductArgs& a, const SpreadRows* rows, int row, StripRange range)
      : a_(a), rows_(rows), row_(row), range_(range), tiles_(kPartCols) {}

  // All whole sixteens of tokens from `token` on.
  void run(int& token) {
    const int64_t n_groups = (a_.n_tokens - token) / kTileTokenRows;
    const int64_t n_chunks = (range_.end - range_.begin + kChunkStrips - 1) / kChunkStrips;
    const auto chunk_at = [&](int64_t index) {
      const int64_t begin = index % n_chunks * kChunkStrips;
      const int64_t end = begin + kChunkStrips;
      const int64_t n_strips = range_.end - range_.begin;
      return TileChunk{token + index / n_chunks * kTileTokenRows,
                       {begin, end < n_strips ? end : n_strips},
                       begin == 0,
                       end >= n_strips};
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
  static constexpr int kChunkStrips = kTileChunkParts / kParts;
  static constexpr int kPartCols = kStripCols / kParts;

  void begin_chunk(const TileChunk& chunk, Sums& sums) {
    next_ = chunk;
    next_sums_ = &sums;
    step_ = 0;
    n_steps_ = static_cast<int>(chunk.strips.end - chunk.strips.begin) * kParts * kVectors;
  }
  void finish_chunk() {
    while (step_ < n_steps_) multiply_next();
  }
  // One tile product of the chunk that was begun.
  void multiply_next() {
    if (step_ == n_steps_) return;
    const int part = step_ / kVectors;
    const int64_t strip = next_.strips.begin + part / kParts;
    const int in_strip = part % kParts;
    if (step_ % kVectors == 0) {
      const int64_t n_strips = a_.layout->n_strips();
      const int64_t at = next_.token * n_strips + range_.begin + strip;
      tiles_.template load_tokens<0>(a_.x.codes + at * kStripCols + in_strip * kPartCols, n_strips * kStripCols);
      multiply_vector<0>(strip, in_strip, part);
    } else {
      multiply_vector<kVectors - 1>(strip, in_strip, part);
    }
    ++step_;
  }
  template <int kVector>
  void multiply_vector(int64_t strip, int in_strip, int part) {
    tiles_.template load_codes<kVector>(rows_[kVector].step(strip, in_strip * (kStepsPerStrip / kParts)));
    tiles_.template multiply<0, kVector>(next_sums_->v[part][kVector]);
  }

  // Adds the scaled sums of a chunk to the totals of some of its tokens.
  void scale(const TileChunk& chunk, const Sums& sums, int first) {
    const PanelLayout& layout = *a_.layout;
    const int64_t n_strips = layout.n_strips();
    const StripNumbers* numbers = a_.x.numbers + (chunk.token + first) * n_strips + range_.begin;
    Vec16 total[kTileScaleTokens][kVectors];
    load_totals(chunk, first, total);
    for (int64_t strip = chunk.strips.begin; strip < chunk.strips.end; ++strip) {
      Vec16 sum[kTileScaleTokens][kVectors];
#pragma GCC unroll 4
      for (int part = 0; part < kParts; ++part) {
        multiply_next();
        const auto& made = sums.v[(strip - chunk.strips.begin) * kParts + part];
#pragma GCC unroll 2
        for (int p = 0; p < kVectors; ++p) {
          const Vec16 scale = rows_[p].scale(strip, part);
#pragma GCC unroll 8
          for (int t = 0; t < kTileScaleTokens; ++t) {
            sum[t][p] = add_scaled(scale, Tiles::value(made[p] + (first + t) * kLanes), part, sum[t][p]);
          }
        }
      }
#pragma GCC unroll 2
      for (int p = 0; p < kVectors; ++p) {
        const Vec16 scaled_sum = rows_[p].scaled_sum(strip);
#pragma GCC unroll 8
        for (int t = 0; t < kTileScaleTokens; ++t) {
          const StripNumbers& of_strip = numbers[t * n_strips + strip];
          total[t][p] = add_strip(of_strip, sum[t][p], scaled_sum, total[t][p]);
        }
      }
      if constexpr (kParts < 4) {
        if (layout.has_bias) {
#pragma GCC unroll 2
          for (int part = 0; part < kParts; ++part) {
#pragma GCC unroll 2
            for (int p = 0; p < kVectors; ++p) {
              const Vec16 bias = rows_[p].bias(strip, part);
#pragma GCC unroll 8
              for (int t = 0; t < kTileScaleTokens; ++t) {
                total[t][p] = add_bias<kParts>(numbers[t * n_strips + strip], part, bias, total[t][p]);
              }
            }
          }
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
    const bool has_bias = a_.bias != nullptr && range_.end == a_.layout->n_strips();
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
  StripRange range_;
  Tiles tiles_;
  TileChunk next_{};
  Sums* next_sums_ = nullptr;
  int step_ = 0;
  int n_steps_ = 0;
  Sums sums_[2];
  alignas(64) float totals_[kTileTokenRows][kVectors][kLanes];
};

}  // namespace
