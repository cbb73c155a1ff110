// mobilellm verify: a model's logits and greedy tokens against reference values in a safetensors file.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "backend/registry.h"
#include "base/error.h"
#include "base/json.h"
#include "cli/args.h"
#include "cli/commands/commands.h"
#include "cli/terminal.h"
#include "codec/codec.h"
#include "formats/safetensors.h"
#include "model/loader.h"

namespace mobilellm::cli {
namespace {

struct VerifyFlags {
  std::string model_path = ".";
  std::string reference;
  double tolerance = 2e-4;
  int64_t threads = 0;
  int64_t chunk = 0;
  bool json = false;
};

struct LogitsResult {
  std::string name;  // Of the reference tensor.
  int64_t n_positions = 0;
  double max_delta = 0;
  int64_t worst_position = 0;
  double mean_kl = 0;
  double max_kl = 0;
  int64_t n_top1_equal = 0;
};

struct GreedyResult {
  std::string name;
  size_t n_tokens = 0;
  size_t n_equal = 0;  // Before the first difference.
};

// One sequence on its own pages, computed from position 0 by each call of run().
class Sequence {
 public:
  explicit Sequence(Runner& runner) : runner_(runner) {}

  // Logits [n_logits, vocab_size] of the last n_logits tokens.
  void append(std::span<const int32_t> tokens, int n_logits, std::vector<float>& logits) {
    const int64_t page_tokens = runner_.page_tokens();
    const int64_t end = position_ + static_cast<int64_t>(tokens.size());
    while (static_cast<int64_t>(pages_.size()) * page_tokens < end)
      pages_.push_back(static_cast<int32_t>(pages_.size()));
    runner_.reserve_pages(static_cast<int>(pages_.size()));
    logits.resize(static_cast<size_t>(n_logits) * static_cast<size_t>(runner_.spec().vocab_size));
    const SequenceSlice slice{tokens, position_, pages_, n_logits};
    runner_.forward({&slice, 1}, logits.data());
    position_ = end;
  }

 private:
  Runner& runner_;
  std::vector<int32_t> pages_;
  int64_t position_ = 0;
};

std::vector<int32_t> read_ids(const TensorView& tensor, int vocab_size) {
  if (tensor.dtype != DType::kI64 && tensor.dtype != DType::kI32) {
    fail(ErrorCode::kCorruptData, "[verify] {}: got type {}, expected I64", describe(tensor), tensor.type_name());
  }
  const size_t width = tensor.dtype == DType::kI64 ? 8 : 4;
  std::vector<int32_t> ids(static_cast<size_t>(tensor.n_values()));
  for (size_t i = 0; i < ids.size(); ++i) {
    int64_t id = 0;
    if (width == 8) {
      std::memcpy(&id, tensor.data.data() + i * width, width);
    } else {
      int32_t narrow = 0;
      std::memcpy(&narrow, tensor.data.data() + i * width, width);
      id = narrow;
    }
    if (id < 0 || id >= vocab_size) {
      fail(ErrorCode::kCorruptData, "[verify] {}: got id {}, expected 0 to {}", describe(tensor), id, vocab_size - 1);
    }
    ids[i] = static_cast<int32_t>(id);
  }
  if (ids.empty()) fail(ErrorCode::kCorruptData, "[verify] {} is empty", describe(tensor));
  return ids;
}

size_t argmax(std::span<const float> row) {
  return static_cast<size_t>(std::max_element(row.begin(), row.end()) - row.begin());
}

double log_sum_exp(std::span<const float> row) {
  const double top = row[argmax(row)];
  double sum = 0;
  for (const float value : row) sum += std::exp(static_cast<double>(value) - top);
  return top + std::log(sum);
}

// KL(reference || ours) of the next-token distributions.
double kl_divergence(std::span<const float> ours, std::span<const float> reference) {
  const double our_norm = log_sum_exp(ours);
  const double reference_norm = log_sum_exp(reference);
  double sum = 0;
  for (size_t i = 0; i < ours.size(); ++i) {
    const double log_p = reference[i] - reference_norm;
    sum += std::exp(log_p) * (log_p - (ours[i] - our_norm));
  }
  return std::max(sum, 0.0);
}

void compare_row(std::span<const float> ours, std::span<const float> reference, int64_t position,
                 LogitsResult& result) {
  double max_delta = 0;
  for (size_t i = 0; i < ours.size(); ++i) {
    const double delta = std::abs(static_cast<double>(ours[i]) - static_cast<double>(reference[i]));
    // Written so that NaN counts as the worst difference.
    if (!(delta <= max_delta)) max_delta = std::isnan(delta) ? std::numeric_limits<double>::infinity() : delta;
  }
  if (result.n_positions == 0 || max_delta > result.max_delta) {
    result.max_delta = max_delta;
    result.worst_position = position;
  }
  const double kl = kl_divergence(ours, reference);
  result.mean_kl += kl;  // Divided at the end.
  result.max_kl = std::max(result.max_kl, kl);
  if (argmax(ours) == argmax(reference)) ++result.n_top1_equal;
  ++result.n_positions;
}

LogitsResult compare_logits(Runner& runner, const TensorView& ids_tensor, const TensorView& logits_tensor,
                            int64_t chunk) {
  const int vocab_size = runner.spec().vocab_size;
  const std::vector<int32_t> ids = read_ids(ids_tensor, vocab_size);
  const auto n_tokens = static_cast<int64_t>(ids.size());
  if (logits_tensor.shape.empty() || logits_tensor.shape.back() != vocab_size || logits_tensor.n_values() == 0 ||
      logits_tensor.n_values() / vocab_size > n_tokens) {
    fail(ErrorCode::kCorruptData, "[verify] {}: got shape {}, expected [{}, {}] as '{}' and the model say",
         describe(logits_tensor), shape_text(logits_tensor.shape), n_tokens, vocab_size, ids_tensor.name);
  }
  const StoredMatrix reference = make_matrix(logits_tensor);
  const int64_t first = n_tokens - reference.rows;  // Fewer rows than tokens are those of the last positions.

  LogitsResult result;
  result.name = logits_tensor.name;
  Sequence sequence(runner);
  std::vector<float> ours;
  std::vector<float> expected(static_cast<size_t>(vocab_size));
  const int64_t step = chunk > 0 ? chunk : n_tokens;
  for (int64_t begin = 0; begin < n_tokens; begin += step) {
    const int64_t size = std::min(step, n_tokens - begin);
    sequence.append(std::span(ids).subspan(static_cast<size_t>(begin), static_cast<size_t>(size)),
                    static_cast<int>(size), ours);
    for (int64_t i = std::max<int64_t>(0, first - begin); i < size; ++i) {
      const int64_t row = begin + i - first;
      reference.codec->decode_rows(reference, row, row + 1, expected.data());
      compare_row(std::span(ours).subspan(static_cast<size_t>(i) * expected.size(), expected.size()), expected,
                  begin + i, result);
    }
  }
  result.mean_kl /= static_cast<double>(result.n_positions);
  return result;
}

GreedyResult compare_greedy(Runner& runner, const TensorView& prompt_tensor, const TensorView& ids_tensor,
                            int64_t chunk) {
  const int vocab_size = runner.spec().vocab_size;
  const std::vector<int32_t> prompt = read_ids(prompt_tensor, vocab_size);
  const std::vector<int32_t> expected = read_ids(ids_tensor, vocab_size);
  Sequence sequence(runner);
  std::vector<float> logits;
  const size_t step = chunk > 0 ? static_cast<size_t>(chunk) : prompt.size();
  for (size_t begin = 0; begin < prompt.size(); begin += step) {
    sequence.append(std::span(prompt).subspan(begin, std::min(step, prompt.size() - begin)), 1, logits);
  }
  GreedyResult result;
  result.name = ids_tensor.name;
  result.n_tokens = expected.size();
  for (const int32_t id : expected) {
    if (static_cast<int32_t>(argmax(logits)) != id) break;
    ++result.n_equal;
    if (result.n_equal < expected.size()) sequence.append(std::span(&id, 1), 1, logits);
  }
  return result;
}

struct Comparison {
  std::vector<LogitsResult> logits;
  std::vector<GreedyResult> greedy;

  double max_delta() const {
    double worst = 0;
    for (const LogitsResult& result : logits) worst = std::max(worst, result.max_delta);
    return worst;
  }
};

// Reference values that could not be compared must not pass as equal.
void check_partners(const WeightSource& reference) {
  const std::string logits_suffix = ".logits";
  const std::string ids_suffix = ".input_ids";
  const auto has = [&reference](const std::string& name) { return reference.find(name) != nullptr; };
  const auto require = [&](const std::string& name, const std::string& partner) {
    if (has(partner)) return;
    fail(ErrorCode::kCorruptData, "[verify] {} has '{}', but no '{}' to compare it with", reference.path(),
         printable_name(name), printable_name(partner));
  };
  for (const TensorView& tensor : reference.tensors()) {
    const std::string& name = tensor.name;
    if (name == "logits_ref" || name == "logits") require(name, "input_ids");
    if (name.ends_with(logits_suffix)) {
      require(name, name.substr(0, name.size() - logits_suffix.size()) + ids_suffix);
    }
    if (name == "greedy.prompt_ids") require(name, "greedy.ids");
  }
  // Ids after the values: of a pair with one name misspelt, the values are what would be missed.
  for (const TensorView& tensor : reference.tensors()) {
    const std::string& name = tensor.name;
    if (name == "input_ids" && !has("logits")) require(name, "logits_ref");
    // The first prompt may serve the greedy tokens alone.
    if (name == "prompt0.input_ids" && has("greedy.ids") && !has("greedy.prompt_ids")) continue;
    if (name.ends_with(ids_suffix)) {
      require(name, name.substr(0, name.size() - ids_suffix.size()) + logits_suffix);
    }
  }
}

Comparison compare(Runner& runner, const WeightSource& reference, int64_t chunk) {
  check_partners(reference);
  Comparison comparison;
  for (const TensorView& tensor : reference.tensors()) {
    const TensorView* logits = nullptr;
    const std::string suffix = ".input_ids";
    if (tensor.name == "input_ids") {
      logits = reference.find("logits_ref");
      if (logits == nullptr) logits = reference.find("logits");
    } else if (tensor.name.ends_with(suffix)) {
      logits = reference.find(tensor.name.substr(0, tensor.name.size() - suffix.size()) + ".logits");
    }
    if (logits != nullptr) comparison.logits.push_back(compare_logits(runner, tensor, *logits, chunk));
  }
  std::sort(comparison.logits.begin(), comparison.logits.end(),
            [](const LogitsResult& a, const LogitsResult& b) { return a.name < b.name; });
  if (const TensorView* ids = reference.find("greedy.ids")) {
    const TensorView* prompt = reference.find("greedy.prompt_ids");
    if (prompt == nullptr) prompt = reference.find("prompt0.input_ids");
    if (prompt == nullptr) {
      fail(ErrorCode::kCorruptData, "[verify] {} has greedy.ids, but no greedy.prompt_ids", reference.path());
    }
    comparison.greedy.push_back(compare_greedy(runner, *prompt, *ids, chunk));
  }
  if (comparison.logits.empty() && comparison.greedy.empty()) {
    fail(ErrorCode::kCorruptData,
         "[verify] {} has nothing to compare: expected promptK.input_ids with promptK.logits, input_ids with "
         "logits_ref, or greedy.prompt_ids with greedy.ids",
         reference.path());
  }
  return comparison;
}

// The first reason why the comparison fails; empty when it passes.
std::string failure(const Comparison& comparison, double tolerance) {
  for (const LogitsResult& result : comparison.logits) {
    if (!(result.max_delta <= tolerance)) {
      return fmt::format("{}: max |delta| {:.3g} at position {} is above the tolerance {:g}", result.name,
                         result.max_delta, result.worst_position, tolerance);
    }
  }
  for (const GreedyResult& result : comparison.greedy) {
    if (result.n_equal != result.n_tokens) {
      return fmt::format("{}: token {} of {} differs", result.name, result.n_equal, result.n_tokens);
    }
  }
  return "";
}

void print_text(const Comparison& comparison, double tolerance, bool is_ok) {
  for (const LogitsResult& result : comparison.logits) {
    print(printable(
        fmt::format("{:<16} {:>4} positions  max |delta| {:.2e}  KL mean {:.1e} max {:.1e}  top-1 {:.1f}%\n",
                    result.name, result.n_positions, result.max_delta, result.mean_kl, result.max_kl,
                    100.0 * static_cast<double>(result.n_top1_equal) / static_cast<double>(result.n_positions))));
  }
  for (const GreedyResult& result : comparison.greedy) {
    print(printable(fmt::format("{:<16} {:>4} tokens     {}\n", result.name, result.n_tokens,
                                result.n_equal == result.n_tokens
                                    ? std::string("identical")
                                    : fmt::format("differ from token {} on", result.n_equal))));
  }
  print(fmt::format("{}: max |delta| {:.2e}, tolerance {:g}\n", is_ok ? "ok" : "FAILED", comparison.max_delta(),
                    tolerance));
}

Json to_json(const Comparison& comparison, double tolerance, bool is_ok) {
  Json logits = Json::array();
  for (const LogitsResult& result : comparison.logits) {
    logits.push(
        Json::object()
            .set("name", result.name)
            .set("positions", result.n_positions)
            .set("max_delta", result.max_delta)
            .set("worst_position", result.worst_position)
            .set("mean_kl", result.mean_kl)
            .set("max_kl", result.max_kl)
            .set("top1_agreement", static_cast<double>(result.n_top1_equal) / static_cast<double>(result.n_positions)));
  }
  Json greedy = Json::array();
  for (const GreedyResult& result : comparison.greedy) {
    greedy.push(Json::object()
                    .set("name", result.name)
                    .set("tokens", static_cast<int64_t>(result.n_tokens))
                    .set("equal_tokens", static_cast<int64_t>(result.n_equal))
                    .set("identical", result.n_equal == result.n_tokens));
  }
  return Json::object()
      .set("ok", is_ok)
      .set("tolerance", tolerance)
      .set("max_delta", comparison.max_delta())
      .set("logits", std::move(logits))
      .set("greedy", std::move(greedy));
}

}  // namespace

int run_verify(int argc, const char* const* argv) {
  VerifyFlags flags;
  Args args("verify", "Compares a model's logits and greedy tokens with reference values.",
            "--model-path PATH --reference FILE [flags]");
  args.text("--model-path,--model", "PATH", flags.model_path, "model folder or .gguf file (default: .)");
  args.text("--reference", "FILE", flags.reference, "safetensors file with the reference values");
  args.number("--tolerance", "T", flags.tolerance, 0, 1e30, "largest difference of a logit (default: 0.0002)");
  args.integer("--chunk", "N", flags.chunk, 0, 1 << 20, "tokens per forward pass; 0 = all at once (default)");
  args.integer("--threads,-t", "N", flags.threads, 0, 1024, "threads; 0 = every usable core (default)");
  args.flag("--json", flags.json, "print one JSON object");
  args.example("mobilellm verify --model-path MODEL --reference golden.safetensors");
  args.example("mobilellm verify --model-path MODEL --reference F --tolerance 1e-3 --json");
  args.note(
      "The reference holds any of: promptK.input_ids [T] with promptK.logits [T, vocabulary]; input_ids with "
      "logits_ref; greedy.prompt_ids with greedy.ids. Exit status: 0 when every logit is within the tolerance and "
      "every greedy token is the same, else 1.");
  if (!args.parse(argc, argv)) return 0;
  if (flags.reference.empty()) args.fail_usage("--reference is missing");

  const std::shared_ptr<SafetensorsSource> reference = open_safetensors(flags.reference);
  LoadedModel model = load_model(flags.model_path);
  ProgressBar bar("loading");
  RunnerOptions options;
  options.n_threads = static_cast<int>(flags.threads);
  options.kv_dtype = KvDtype::kF32;
  options.is_exact = true;
  options.on_progress = [&bar](double fraction) {
    bar.update(fraction);
    return true;
  };
  const std::unique_ptr<Runner> runner = create_runner("cpu", model.spec, std::move(model.weights), options);
  bar.clear();

  const Comparison comparison = compare(*runner, *reference, flags.chunk);
  const std::string problem = failure(comparison, flags.tolerance);
  if (flags.json) {
    print(to_json(comparison, flags.tolerance, problem.empty()).dump_pretty() + "\n");
  } else {
    print_text(comparison, flags.tolerance, problem.empty());
  }
  flush_stdout();
  if (!problem.empty()) print_error("[verify] " + problem);
  return problem.empty() ? 0 : 1;
}

}  // namespace mobilellm::cli
