// Filters on numbers.
#include <array>
#include <charconv>
#include <cmath>
#include <cstdio>

#include "chat/jinja/builtins.h"
#include "chat/jinja/numbers.h"
#include "chat/jinja/runtime.h"

namespace mobilellm::jinja {
namespace {

Value filter_abs(Runtime& runtime, const Value& value, Args& args) {
  const Parameters none(runtime, "abs", args, {});
  if (value.is(Type::kFloat)) return Value(std::fabs(value.as_double()));
  if (value.is_undefined()) runtime.raise_undefined(value);
  if (!value.is_integral()) runtime.raise("bad operand type for abs(): '{}'", type_name(value));
  return value.as_int() < 0 ? runtime.negative(value) : Value(value.as_int());
}

// Whole part of a float; nothing when it has none or is out of range.
std::optional<int64_t> whole_part(double value) {
  if (!(std::fabs(value) < 9.2e18)) return std::nullopt;
  return static_cast<int64_t>(value);
}

Value filter_int(Runtime& runtime, const Value& value, Args& args) {
  const Parameters parameters(runtime, "int", args, {"default", "base"});
  Value default_value = parameters.has(0) ? parameters[0] : Value(0);
  if (value.is_integral()) return Value(value.as_int());
  if (value.is(Type::kFloat)) {
    if (std::isnan(value.as_double())) return default_value;
    const std::optional<int64_t> whole = whole_part(value.as_double());
    if (!whole) runtime.raise("cannot convert float to integer: out of range");
    return Value(*whole);
  }
  if (value.is_undefined()) runtime.raise_undefined(value);
  if (!value.is_string()) return default_value;
  bool is_overflow = false;
  runtime.budget().step_bytes(value.view().size());
  const int64_t base = parameters.integer(1, 10);
  if (const auto integer = parse_integer(value.view(), base, is_overflow)) return Value(*integer);
  if (is_overflow) runtime.raise("integer out of range");
  if (const auto number = parse_float(value.view())) {
    if (const auto whole = whole_part(*number)) return Value(*whole);
  }
  return default_value;
}

Value filter_float(Runtime& runtime, const Value& value, Args& args) {
  const Parameters parameters(runtime, "float", args, {"default"});
  if (value.is_number()) return Value(value.as_double());
  if (value.is_undefined()) runtime.raise_undefined(value);
  if (value.is_string()) {
    runtime.budget().step_bytes(value.view().size());
    if (const auto number = parse_float(value.view())) return Value(*number);
  }
  return parameters.has(0) ? parameters[0] : Value(0.0);
}

// Python's round(): to even, exact in decimal.
double round_to(double value, int64_t precision) {
  if (!std::isfinite(value) || precision > 300) return value;
  if (precision < -300) return 0.0 * value;
  if (precision >= 0) {
    char buffer[700];
    std::snprintf(buffer, sizeof(buffer), "%.*f", static_cast<int>(precision), value);
    return std::strtod(buffer, nullptr);
  }
  const double scale = std::pow(10.0, static_cast<double>(-precision));
  return std::nearbyint(value / scale) * scale;
}

Value round_integer(const Runtime& runtime, int64_t value, int64_t precision) {
  if (precision >= 0) return Value(value);
  if (precision < -18) return Value(0);
  int64_t scale = 1;
  for (int64_t i = 0; i < -precision; ++i) scale *= 10;
  int64_t quotient = value / scale;
  const int64_t rest = std::llabs(value % scale);
  if (rest * 2 > scale || (rest * 2 == scale && quotient % 2 != 0)) quotient += value < 0 ? -1 : 1;
  int64_t result = 0;
  if (__builtin_mul_overflow(quotient, scale, &result)) runtime.raise("integer overflow");
  return Value(result);
}

Value filter_round(Runtime& runtime, const Value& value, Args& args) {
  const Parameters parameters(runtime, "round", args, {"precision", "method"});
  const int64_t precision = parameters.integer(0, 0);
  const std::string_view method = parameters.string(1, "common");
  if (method != "common" && method != "ceil" && method != "floor")
    runtime.raise("method must be common, ceil or floor");
  if (value.is_undefined()) runtime.raise_undefined(value);
  if (!value.is_number()) runtime.raise("type {} doesn't define __round__ method", type_name(value));
  if (method == "common") {
    if (value.is_integral()) return round_integer(runtime, value.as_int(), precision);
    return Value(round_to(value.as_double(), precision));
  }
  const double scale = std::pow(10.0, static_cast<double>(precision));
  const double scaled = value.as_double() * scale;
  if (!std::isfinite(scaled)) runtime.raise("cannot convert float to integer");
  const double whole = method == "ceil" ? std::ceil(scaled) : std::floor(scaled);
  const double result = whole / scale;
  return Value(result == 0.0 ? 0.0 : result);  // Through an int: there is no -0.0.
}

Value filter_filesizeformat(Runtime& runtime, const Value& value, Args& args) {
  const Parameters parameters(runtime, "filesizeformat", args, {"binary"});
  const bool is_binary = parameters.boolean(0, false);
  std::optional<double> number;
  if (value.is_number()) {
    number = value.as_double();
  } else if (value.is_string()) {
    number = parse_float(value.view());
  }
  if (!number) runtime.raise("filesizeformat: expected a number, got {}", type_name(value));
  double bytes = *number;
  const double base = is_binary ? 1024 : 1000;
  static constexpr std::array<const char*, 8> kDecimal = {"kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"};
  static constexpr std::array<const char*, 8> kBinary = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"};
  if (bytes == 1) return runtime.text("1 Byte");
  if (bytes < base) return runtime.text(fmt::format("{} Bytes", static_cast<int64_t>(bytes)));
  double unit = base;
  const char* prefix = "";
  for (size_t i = 0; i < kDecimal.size(); ++i) {
    unit *= base;
    prefix = is_binary ? kBinary[i] : kDecimal[i];
    if (bytes < unit) break;
  }
  char buffer[400];
  std::snprintf(buffer, sizeof(buffer), "%.1f %s", base * bytes / unit, prefix);
  return runtime.text(buffer);
}

constexpr NamedFunction<Filter> kFilters[] = {
    {"int", filter_int},
    {"float", filter_float},
    {"round", filter_round},
    {"abs", filter_abs},
    {"filesizeformat", filter_filesizeformat},
};

}  // namespace

Filter find_number_filter(std::string_view name) { return find_in(kFilters, name); }

}  // namespace mobilellm::jinja
