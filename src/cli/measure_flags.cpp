// What measuring commands share.
#include "cli/measure_flags.h"

#include <string_view>

#include "cli/kv_flag.h"

namespace mobilellm::cli {

void declare_measure(Args& args, MeasureFlags& flags) {
  args.files("--text", "FILE", flags.texts, "text files, or .jsonl; several may follow");
  args.integer("--chunk", "N", flags.chunks.chunk_tokens, 2, 1 << 20, "tokens that are run together (default: 512)");
  args.integer("--max-chunks", "N", flags.chunks.max_chunks, 0, 1 << 30, "chunks of each file; 0 = all (default)");
  args.integer("--threads,-t", "N", flags.n_threads, 0, 1024, "threads; 0 = every usable core (default)");
  args.flag("--json", flags.json, "print one JSON object");
}

void check_measure(const Args& args, const MeasureFlags& flags) {
  if (flags.texts.empty()) args.fail_usage("the text is missing: --text FILE");
}

void declare_arithmetic(Args& args, const std::string& prefix, const std::string& whose, ArithmeticFlags& flags) {
  args.text("--" + prefix + "arithmetic", "HOW", flags.arithmetic,
            whose + " arithmetic: exact (f32 activations) or default, as generate computes (default: exact)");
  args.text("--" + prefix + "kv", "TYPE", flags.kv,
            whose + " keys and values: f32, f16, i16 or q8 (default: f32 with exact, else i16)");
}

RunnerOptions parse_arithmetic(const Args& args, const std::string& prefix, const ArithmeticFlags& flags,
                               int64_t n_threads) {
  if (flags.arithmetic != "exact" && flags.arithmetic != "default") {
    args.fail_usage(fmt::format("--{}arithmetic: got '{}', expected exact or default", prefix, flags.arithmetic));
  }
  RunnerOptions options;
  options.n_threads = static_cast<int>(n_threads);
  options.is_exact = flags.arithmetic == "exact";
  options.kv_dtype = parse_kv(args, flags.kv, "--" + prefix + "kv");
  if (options.kv_dtype == KvDtype::kAuto) options.kv_dtype = options.is_exact ? KvDtype::kF32 : KvDtype::kI16;
  return options;
}

namespace {

const char* kv_name(KvDtype dtype) {
  switch (dtype) {
    case KvDtype::kF32:
      return "f32";
    case KvDtype::kF16:
      return "f16";
    case KvDtype::kQ8:
      return "q8";
    default:
      return "i16";
  }
}

}  // namespace

Json arithmetic_json(const RunnerOptions& options) {
  return Json::object().set("exact", options.is_exact).set("kv", kv_name(options.kv_dtype));
}

std::string arithmetic_text(const RunnerOptions& options) {
  return fmt::format("{}, kv {}", options.is_exact ? "exact" : "default", kv_name(options.kv_dtype));
}

RunnerOptions MeasureScope::loading(RunnerOptions options) {
  options.on_progress = [this](double fraction) {
    show("loading", fraction);
    return !CancelScope::flag().load(std::memory_order_relaxed);
  };
  return options;
}

MeasureOptions MeasureScope::options(const MeasureFlags& flags) {
  MeasureOptions options;
  options.n_threads = static_cast<int>(flags.n_threads);
  options.on_progress = [this](double fraction) { show("measuring", fraction); };
  options.cancel = &CancelScope::flag();
  return options;
}

void MeasureScope::end() { bar_.reset(); }

int MeasureScope::failed(const Error& error) {
  end();
  if (error.code() != ErrorCode::kCancelled) throw error;
  print_error(error.what());
  return CancelScope::requested_status();
}

void MeasureScope::show(const char* label, double fraction) {
  if (label_ != label) {
    bar_.reset();
    bar_.emplace(label);
    label_ = label;
  }
  bar_->update(fraction);
}

}  // namespace mobilellm::cli
