// Tables of mixtures, and exceptions by name.
#include "quant/recipes.h"

#include <charconv>

#include "base/error.h"

namespace mobilellm {
namespace {

MatrixStorage groups(int bits) {
  MatrixStorage storage;
  storage.params = {QuantMode::kAffine, bits, 64};
  return storage;
}

MatrixStorage blocks(DType type) {
  MatrixStorage storage;
  storage.block_type = type;
  return storage;
}

// The layers that both programs store finer: the first and last eighth, and every third between.
bool uses_more_bits(const ModelSpec& spec, int layer) {
  const int n = spec.n_layers();
  return layer < n / 8 || layer >= 7 * n / 8 || (layer - n / 8) % 3 == 2;
}

bool is_down(TensorRole role) { return role == TensorRole::kDownProj || role == TensorRole::kPlainDown; }

bool is_output(const ModelSpec& spec, TensorRole role) {
  return role == TensorRole::kLmHead || (role == TensorRole::kEmbedTokens && spec.is_output_tied);
}

template <int kLow, int kHigh>
MatrixStorage mlx_mixture(const ModelSpec& spec, TensorRole role, int layer) {
  const bool is_fine =
      role == TensorRole::kLmHead || ((role == TensorRole::kVProj || is_down(role)) && uses_more_bits(spec, layer));
  return groups(is_fine ? kHigh : kLow);
}

// llama_tensor_get_type() of llama.cpp 0.5; tests/vectors/mixtures has what its quantizer says.
MatrixStorage q2_k_s(const ModelSpec& spec, TensorRole role, int layer) {
  if (is_output(spec, role)) return blocks(DType::kQ6_K);
  if (role == TensorRole::kVProj) {
    const LayerSpec& first = spec.layers.front();
    return blocks(first.n_heads >= 4 * first.n_kv_heads ? DType::kQ4_K : DType::kQ2_K);
  }
  if (is_down(role) && layer < spec.n_layers() / 8) return blocks(DType::kQ4_K);
  return blocks(DType::kQ2_K);
}

MatrixStorage q3_k_s(const ModelSpec& spec, TensorRole role, int /*layer*/) {
  return blocks(is_output(spec, role) ? DType::kQ6_K : DType::kQ3_K);
}

MatrixStorage q3_k_m(const ModelSpec& spec, TensorRole role, int layer) {
  if (is_output(spec, role)) return blocks(DType::kQ6_K);
  if (role == TensorRole::kVProj) return blocks(layer < 2 ? DType::kQ5_K : DType::kQ4_K);
  if (role == TensorRole::kOProj) return blocks(DType::kQ4_K);
  if (is_down(role)) return blocks(layer < spec.n_layers() / 16 ? DType::kQ5_K : DType::kQ4_K);
  return blocks(DType::kQ3_K);
}

MatrixStorage q3_k_l(const ModelSpec& spec, TensorRole role, int /*layer*/) {
  if (is_output(spec, role)) return blocks(DType::kQ6_K);
  const bool is_fine = role == TensorRole::kVProj || role == TensorRole::kOProj || is_down(role);
  return blocks(is_fine ? DType::kQ5_K : DType::kQ3_K);
}

MatrixStorage q4_k_s(const ModelSpec& spec, TensorRole role, int layer) {
  if (is_output(spec, role)) return blocks(DType::kQ6_K);
  const bool is_fine = (role == TensorRole::kVProj && layer < 4) || (is_down(role) && layer < spec.n_layers() / 8);
  return blocks(is_fine ? DType::kQ5_K : DType::kQ4_K);
}

template <DType kLow>
MatrixStorage k_medium(const ModelSpec& spec, TensorRole role, int layer) {
  const bool is_fine =
      is_output(spec, role) || ((role == TensorRole::kVProj || is_down(role)) && uses_more_bits(spec, layer));
  return blocks(is_fine ? DType::kQ6_K : kLow);
}

MatrixStorage q5_k_s(const ModelSpec& spec, TensorRole role, int /*layer*/) {
  return blocks(is_output(spec, role) ? DType::kQ6_K : DType::kQ5_K);
}

constexpr StorageRecipe kRecipes[] = {
    {"mixed_2_6", ModelFormat::kMlx, mlx_mixture<2, 6>},
    {"mixed_3_4", ModelFormat::kMlx, mlx_mixture<3, 4>},
    {"mixed_3_6", ModelFormat::kMlx, mlx_mixture<3, 6>},
    {"mixed_4_6", ModelFormat::kMlx, mlx_mixture<4, 6>},
    {"Q2_K_S", ModelFormat::kGguf, q2_k_s},
    {"Q3_K_S", ModelFormat::kGguf, q3_k_s},
    {"Q3_K_M", ModelFormat::kGguf, q3_k_m},
    {"Q3_K_L", ModelFormat::kGguf, q3_k_l},
    {"Q4_K_S", ModelFormat::kGguf, q4_k_s},
    {"Q4_K_M", ModelFormat::kGguf, k_medium<DType::kQ4_K>},
    {"Q5_K_S", ModelFormat::kGguf, q5_k_s},
    {"Q5_K_M", ModelFormat::kGguf, k_medium<DType::kQ5_K>},
};

constexpr DType kBlockTypes[] = {DType::kQ4_0,   DType::kQ4_1,   DType::kQ5_0, DType::kQ5_1, DType::kQ8_0,
                                 DType::kQ2_K,   DType::kQ3_K,   DType::kQ4_K, DType::kQ5_K, DType::kQ6_K,
                                 DType::kIQ4_NL, DType::kIQ4_XS, DType::kMXFP4};

std::optional<int> read_number(std::string_view text) {
  int value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

}  // namespace

MatrixStorage StorageRecipe::choose_for(const ModelSpec& spec, TensorRole role, int layer, int64_t cols) const {
  const MatrixStorage storage = choose(spec, role, layer);
  const bool is_small = storage.block_type == DType::kQ2_K || storage.block_type == DType::kQ3_K;
  return is_small && cols % dtype_info(storage.block_type).block_values != 0 ? blocks(DType::kQ4_0) : storage;
}

const StorageRecipe* find_recipe(std::string_view name) {
  for (const StorageRecipe& recipe : kRecipes) {
    if (name == recipe.name) return &recipe;
  }
  return nullptr;
}

std::string recipe_names(ModelFormat format) {
  std::string names;
  for (const StorageRecipe& recipe : kRecipes) {
    if (recipe.format == format) names += fmt::format("{}{}", names.empty() ? "" : ", ", recipe.name);
  }
  return names;
}

std::vector<DType> quantized_block_types() { return {std::begin(kBlockTypes), std::end(kBlockTypes)}; }

StorageOverride parse_override(std::string_view text, ModelFormat format, int usual_group) {
  const auto refuse = [&](const std::string& expected) {
    fail(ErrorCode::kInvalidArgument, "[quant] override: got '{}', expected {}", text, expected);
  };
  const size_t equals = text.rfind('=');
  if (equals == std::string_view::npos || equals == 0) refuse("PATTERN=SETTING");
  StorageOverride result{std::string(text.substr(0, equals)), MatrixStorage{}};
  const std::string_view setting = text.substr(equals + 1);
  if (setting == "float") {
    result.storage.reset();
    return result;
  }
  if (format == ModelFormat::kGguf) {
    for (const DType type : kBlockTypes) {
      if (setting == dtype_name(type)) result.storage->block_type = type;
    }
    if (result.storage->block_type == DType::kU32) refuse("a GGUF type such as Q6_K, or float, after =");
    return result;
  }
  const size_t colon = setting.find(':');
  const std::optional<int> bits = read_number(setting.substr(0, colon));
  const std::optional<int> group =
      colon == std::string_view::npos ? std::optional(usual_group) : read_number(setting.substr(colon + 1));
  if (!bits || !group) refuse("BITS, BITS:GROUP or float after =");
  result.storage->params = {QuantMode::kAffine, *bits, *group};
  check_quantization_params(result.storage->params);
  return result;
}

bool matches_pattern(std::string_view pattern, std::string_view text) {
  // After a mismatch the last star takes one more character: time is the product of both lengths at most.
  size_t p = 0;
  size_t t = 0;
  size_t star = std::string_view::npos;
  size_t star_text = 0;
  while (t < text.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      star_text = t;
    } else if (p < pattern.size() && (pattern[p] == '?' || pattern[p] == text[t])) {
      ++p;
      ++t;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      t = ++star_text;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

}  // namespace mobilellm
