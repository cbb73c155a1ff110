// AMX tiles in portable C++, after the operations of Intel's manual (LDTILECFG, TILELOADD, TDPBUSD, TILESTORED): the
// oracle of tile_amx.h on machines without AMX. What would raise an exception there is counted in tile_faults.
#include <cstddef>
#include <cstdint>
#include <cstring>

#define MOBILELLM_TILES

namespace {

int tile_faults = 0;

class Tiles {
 public:
  explicit Tiles(int n_cols) {
    for (int tile = 0; tile < 6; ++tile) {
      rows_[tile] = tile == 2 || tile == 3 ? n_cols / 4 : 16;
      row_bytes_[tile] = tile < 2 ? n_cols : 64;
      tile_faults += rows_[tile] < 1 || rows_[tile] > 16 || row_bytes_[tile] < 1 || row_bytes_[tile] > 64 ? 1 : 0;
    }
  }
  Tiles(const Tiles&) = delete;
  Tiles& operator=(const Tiles&) = delete;

  template <int kTile>
  void load_tokens(const uint8_t* p, int64_t stride) {
    load(kTile, p, stride);
  }
  template <int kTile>
  void load_codes(const std::byte* p) {
    load(kTile + 2, p, 64);
  }
  template <int kTokens, int kCodes>
  void multiply(int32_t* sums) {
    std::memset(data_[kCodes + 4], 0, sizeof(data_[0]));
    multiply_bytes(kCodes + 4, kTokens, kCodes + 2);
    for (int row = 0; row < rows_[kCodes + 4]; ++row) {
      std::memcpy(sums + 16 * row, data_[kCodes + 4][row], static_cast<size_t>(row_bytes_[kCodes + 4]));
    }
  }
  static Vec16 value(const int32_t* sums) {
    return Vec16::make([&](int i) { return static_cast<float>(sums[i]); });
  }

 private:
  void load(int tile, const void* p, int64_t stride) {
    std::memset(data_[tile], 0, sizeof(data_[tile]));
    for (int row = 0; row < rows_[tile]; ++row) {
      std::memcpy(data_[tile][row], static_cast<const std::byte*>(p) + row * stride,
                  static_cast<size_t>(row_bytes_[tile]));
    }
  }
  // TDPBUSD: to[m][n] += a[m][4 k + i] (unsigned) * b[k][4 n + i] (signed)
  void multiply_bytes(int to, int a, int b) {
    const bool fits = row_bytes_[a] % 4 == 0 && row_bytes_[b] % 4 == 0 && row_bytes_[to] % 4 == 0 &&
                      row_bytes_[a] / 4 == rows_[b] && row_bytes_[b] == row_bytes_[to] && rows_[a] == rows_[to];
    tile_faults += fits ? 0 : 1;
    for (int m = 0; m < rows_[to]; ++m) {
      for (int k = 0; k < row_bytes_[a] / 4; ++k) {
        for (int n = 0; n < row_bytes_[to] / 4; ++n) {
          int32_t sum = 0;
          std::memcpy(&sum, data_[to][m] + 4 * n, 4);
          for (int i = 0; i < 4; ++i) {
            sum += data_[a][m][4 * k + i] * static_cast<int8_t>(data_[b][k][4 * n + i]);
          }
          std::memcpy(data_[to][m] + 4 * n, &sum, 4);
        }
      }
    }
  }

  int rows_[8] = {};
  int row_bytes_[8] = {};
  uint8_t data_[8][16][64] = {};
};

}  // namespace
