// Tiles of Intel AMX: products of 16 tokens with 16 rows in one instruction. Same operations as tile_emulated.h.
//
// Written as asm, since gcc 12's intrinsics tell the compiler too little: its _tile_loadconfig reads 8 of 64 bytes and
// its _tile_loadd no memory at all, so that stores before them are dropped or moved behind them.
#include <cstddef>
#include <cstdint>

#define MOBILELLM_TILES

namespace {

// The eight tiles: 0 and 1 tokens, 2 and 3 codes, 4 and 5 sums; 6 and 7 are not used. Live in one thread from
// construction to destruction.
class Tiles {
 public:
  // Products over n_cols columns, a multiple of 4 up to 64.
  explicit Tiles(int n_cols) {
    Config config;
    for (int tile = 0; tile < 6; ++tile) {
      config.rows[tile] = tile == 2 || tile == 3 ? static_cast<uint8_t>(n_cols / 4) : 16;
      config.row_bytes[tile] = tile < 2 ? static_cast<uint16_t>(n_cols) : 64;
    }
    asm volatile("ldtilecfg %0" : : "m"(config));
  }
  ~Tiles() { asm volatile("tilerelease"); }
  Tiles(const Tiles&) = delete;
  Tiles& operator=(const Tiles&) = delete;

  // Unsigned bytes of 16 tokens, n_cols each, `stride` bytes apart.
  template <int kTile>
  void load_tokens(const uint8_t* p, int64_t stride) {
    asm volatile("tileloadd (%0,%1,1), %%tmm%c2" : : "r"(p), "r"(stride), "i"(kTile) : "memory");
  }
  // Signed bytes of 16 rows: per 4 columns 16 words of 4 bytes.
  template <int kTile>
  void load_codes(const std::byte* p) {
    asm volatile("tileloadd (%0,%1,1), %%tmm%c2" : : "r"(p), "r"(int64_t{64}), "i"(kTile + 2) : "memory");
  }
  // sums[token][row] = product of tokens and codes.
  template <int kTokens, int kCodes>
  void multiply(int32_t* sums) {
    asm volatile("tilezero %%tmm%c0" : : "i"(kCodes + 4));
    asm volatile("tdpbusd %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(kCodes + 4), "i"(kTokens), "i"(kCodes + 2));
    asm volatile("tilestored %%tmm%c2, (%0,%1,1)" : : "r"(sums), "r"(int64_t{64}), "i"(kCodes + 4) : "memory");
  }
  // A token's sums as floats.
  static Vec16 value(const int32_t* sums) { return {_mm512_cvtepi32_ps(_mm512_load_si512(sums))}; }

 private:
  struct alignas(64) Config {
    uint8_t palette = 1;
    uint8_t start_row = 0;
    uint8_t reserved[14] = {};
    uint16_t row_bytes[16] = {};
    uint8_t rows[16] = {};
  };
  static_assert(sizeof(Config) == 64);
};

}  // namespace
