// Rotation tables: default, Llama-3, linear and YaRN scaling, and the config objects that select them.
#include "model/arch/rope.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <vector>

#include "base/error.h"
#include "model/arch/config_keys.h"
#include "model/arch/registry.h"

namespace mobilellm {
namespace {

/// theta^(2i / head_dim) as the reference rounds it: the exponent and the power in f32.
float position_period(double theta, int head_dim, int i) {
  const float exponent = static_cast<float>(2 * i) / static_cast<float>(head_dim);
  return static_cast<float>(std::pow(static_cast<double>(static_cast<float>(theta)), static_cast<double>(exponent)));
}

// Equal but for rounding.
bool is_near(std::span<const float> a, std::span<const float> b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](float x, float y) { return std::abs(x - y) <= 2e-6f * std::max(std::abs(x), std::abs(y)); });
}

double yarn_mscale(double scale, double mscale) { return scale <= 1 ? 1.0 : 0.1 * mscale * std::log(scale) + 1.0; }

}  // namespace

RopeTable make_rope_table(double theta, int head_dim) {
  RopeTable table;
  table.theta = theta;
  table.inv_freq.resize(static_cast<size_t>(head_dim) / 2);
  for (size_t i = 0; i < table.inv_freq.size(); ++i) {
    table.inv_freq[i] = 1.0f / position_period(theta, head_dim, static_cast<int>(i));
  }
  return table;
}

void scale_rope_llama3(RopeTable& table, double factor, double low_freq_factor, double high_freq_factor,
                       double original_context) {
  const auto low_wavelength = static_cast<float>(original_context / low_freq_factor);
  const auto high_wavelength = static_cast<float>(original_context / high_freq_factor);
  const auto f32_factor = static_cast<float>(factor);
  for (float& frequency : table.inv_freq) {
    const float wavelength = static_cast<float>(2 * std::numbers::pi) / frequency;
    if (wavelength > low_wavelength) {
      frequency /= f32_factor;
    } else if (!(wavelength < high_wavelength)) {
      const float smooth = (static_cast<float>(original_context) / wavelength - static_cast<float>(low_freq_factor)) /
                           static_cast<float>(high_freq_factor - low_freq_factor);
      frequency = (1.0f - smooth) * frequency / f32_factor + smooth * frequency;
    }
  }
  table.scaling = "llama3";
  table.recipe.kind = RopeScaling::Kind::kLlama3;
  table.recipe.factor = factor;
  table.recipe.low_freq_factor = low_freq_factor;
  table.recipe.high_freq_factor = high_freq_factor;
  table.recipe.original_context = original_context;
}

void scale_rope_linear(RopeTable& table, double factor) {
  for (float& frequency : table.inv_freq) frequency /= static_cast<float>(factor);
  table.scaling = "linear";
  table.recipe.kind = RopeScaling::Kind::kLinear;
  table.recipe.factor = factor;
}

void scale_rope_yarn(RopeTable& table, const RopeScaling& yarn) {
  const int half = static_cast<int>(table.inv_freq.size());
  const int head_dim = 2 * half;
  // The dimension that turns `rotations` times over the original context.
  const auto correction_dim = [&](double rotations) {
    return head_dim * std::log(yarn.original_context / (rotations * 2 * std::numbers::pi)) /
           (2 * std::log(table.theta));
  };
  double low = correction_dim(yarn.beta_fast);
  double high = correction_dim(yarn.beta_slow);
  if (yarn.is_truncated) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, static_cast<double>(head_dim - 1));
  if (low == high) high += 0.001;

  for (int i = 0; i < half; ++i) {
    const float period = position_period(table.theta, head_dim, i);
    const float ramp =
        std::clamp((static_cast<float>(i) - static_cast<float>(low)) / static_cast<float>(high - low), 0.0f, 1.0f);
    const float keep = 1.0f - ramp;
    const float interpolated = 1.0f / (static_cast<float>(yarn.factor) * period);
    table.inv_freq[static_cast<size_t>(i)] = interpolated * (1.0f - keep) + 1.0f / period * keep;
  }
  if (yarn.attention_factor) {
    table.attention_factor = static_cast<float>(*yarn.attention_factor);
  } else if (yarn.mscale != 0 && yarn.mscale_all_dim != 0) {
    table.attention_factor =
        static_cast<float>(yarn_mscale(yarn.factor, yarn.mscale) / yarn_mscale(yarn.factor, yarn.mscale_all_dim));
  } else {
    table.attention_factor = static_cast<float>(yarn_mscale(yarn.factor, 1));
  }
  table.scaling = "yarn";
  table.recipe = yarn;
  table.recipe.kind = RopeScaling::Kind::kYarn;
}

void divide_rope(RopeTable& table, std::span<const float> divisors) {
  const RopeTable unscaled = table;
  for (size_t i = 0; i < table.inv_freq.size(); ++i) table.inv_freq[i] /= divisors[i];
  table.scaling = "llama3";
  table.recipe = {};
  table.recipe.kind = RopeScaling::Kind::kUnknown;
  // Every published model has the factors 1 and 4 and a power of two; the slowest speeds are divided by the factor.
  const double factor =
      std::round(static_cast<double>(*std::max_element(divisors.begin(), divisors.end())) * 1e4) / 1e4;
  for (double original = 16; factor >= 1 && original <= static_cast<double>(kMaxContext); original *= 2) {
    RopeTable candidate = unscaled;
    scale_rope_llama3(candidate, factor, 1, 4, original);
    if (is_near(candidate.inv_freq, table.inv_freq)) {
      table.recipe = candidate.recipe;
      return;
    }
  }
}

std::vector<float> rope_divisors(const RopeTable& table) {
  const int head_dim = static_cast<int>(2 * table.inv_freq.size());
  const RopeTable unscaled = make_rope_table(table.theta, head_dim);
  std::vector<float> divisors(table.inv_freq.size());
  for (size_t i = 0; i < divisors.size(); ++i) {
    const float from = unscaled.inv_freq[i];
    const float to = table.inv_freq[i];
    divisors[i] = from / to;
    for (const float towards : {0.0f, std::numeric_limits<float>::max()}) {
      const float neighbour = std::nextafter(from / to, towards);
      if (from / divisors[i] != to && from / neighbour == to) divisors[i] = neighbour;
    }
  }
  return divisors;
}

RopeTable read_rope_parameters(JsonObjectReader& object, double theta, int head_dim, int64_t max_context) {
  theta = object.get_number("rope_theta", kMinRopeTheta, kMaxRopeTheta, theta);
  RopeTable table = make_rope_table(theta, head_dim);
  // Older configs say "type"; some carry both.
  const std::string old_type = object.get_string("type", "default");
  const std::string type = object.get_string("rope_type", old_type);
  if (object.get_number("partial_rotary_factor", 0, 1, 1) != 1) {
    object.fail_key("partial_rotary_factor", "only 1 (all of a head is rotated) is supported");
  }

  const auto get_factor = [&] { return object.get_number("factor", 1, 1e6); };
  if (type == "default") {
    // Nothing to scale.
  } else if (type == "linear") {
    scale_rope_linear(table, get_factor());
  } else if (type == "llama3") {
    const double factor = get_factor();
    const double low = object.get_number("low_freq_factor", 1e-6, 1e6);
    const double high = object.get_number("high_freq_factor", 1e-6, 1e6);
    if (high <= low) object.fail_key("high_freq_factor", "must be greater than low_freq_factor");
    const auto original = static_cast<double>(object.get_int("original_max_position_embeddings", 1, kMaxContext));
    scale_rope_llama3(table, factor, low, high, original);
  } else if (type == "yarn") {
    RopeScaling yarn;
    yarn.factor = get_factor();
    yarn.original_context =
        static_cast<double>(object.get_int("original_max_position_embeddings", 1, kMaxContext, max_context));
    yarn.beta_fast = object.get_number("beta_fast", 1e-3, 1e6, yarn.beta_fast);
    yarn.beta_slow = object.get_number("beta_slow", 1e-3, 1e6, yarn.beta_slow);
    if (object.has("attention_factor")) yarn.attention_factor = object.get_number("attention_factor", 1e-6, 1e6);
    yarn.mscale = object.get_number("mscale", 0, 1e6, 0);
    yarn.mscale_all_dim = object.get_number("mscale_all_dim", 0, 1e6, 0);
    yarn.is_truncated = object.get_bool("truncate", true);
    scale_rope_yarn(table, yarn);
  } else {
    fail(ErrorCode::kUnsupported,
         "[config] {}: rope_type: got \"{}\", expected one of default, linear, llama3, yarn (rope_scaling)",
         object.origin(), type);
  }
  // A leftover of another type is harmless; anything else in here would change the angles.
  for (const char* key : {"factor", "original_max_position_embeddings", "low_freq_factor", "high_freq_factor"}) {
    object.ignore(key);
  }
  for (const std::string& key : object.unread_keys()) {
    fail(ErrorCode::kUnsupported, "[config] {}: {}: this RoPE setting is not supported", object.origin(), key);
  }
  return table;
}

RopeTable read_rope(JsonObjectReader& config, double default_theta, int head_dim, int64_t max_context) {
  const double theta = config.get_number("rope_theta", kMinRopeTheta, kMaxRopeTheta, default_theta);
  for (const char* key : {"rope_parameters", "rope_scaling"}) {
    if (config.find(key) == nullptr) continue;
    JsonObjectReader object = config.get_object(key);
    // transformers 5 writes both names with equal values; the first wins.
    config.ignore("rope_scaling");
    return read_rope_parameters(object, theta, head_dim, max_context);
  }
  return make_rope_table(theta, head_dim);
}

}  // namespace mobilellm
