// The identity of a run, and the form of its parts.
#include "quant/kept_run.h"

#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <filesystem>

#include "base/error.h"
#include "base/files.h"
#include "base/json.h"
#include "base/staged_output.h"

namespace mobilellm {
namespace {

constexpr const char* kPlanName = "plan";
constexpr const char* kTrainingName = "training";
// Grows when the form of the parts changes.
constexpr int kPartsVersion = 1;
constexpr size_t kMaxTextBytes = size_t{256} << 20;

std::string unfinished_folder(const std::string& target) {
  const std::string plain = StagedOutput::check_target(target);
  return join_path(parent_directory(plain), fmt::format(".{}.unfinished", file_name(plain)));
}

Json file_identity(const std::string& path) {
  struct stat info{};
  if (::stat(path.c_str(), &info) != 0) return {};
#if defined(__APPLE__)
  const timespec modified = info.st_mtimespec;
#else
  const timespec modified = info.st_mtim;
#endif
  return Json::object()
      .set("name", file_name(path))
      .set("bytes", static_cast<int64_t>(info.st_size))
      .set("seconds", static_cast<int64_t>(modified.tv_sec))
      .set("nanoseconds", static_cast<int64_t>(modified.tv_nsec));
}

// All files of a folder; of a GGUF set all that lie beside the given one.
Json source_identity(const std::string& source) {
  std::vector<std::string> paths;
  const bool is_folder = directory_exists(source);
  std::error_code ignored;
  if (is_folder || source.find("-of-") != std::string::npos) {
    const std::string folder = is_folder ? source : parent_directory(source);
    const std::filesystem::directory_iterator end;
    for (std::filesystem::directory_iterator at(folder, ignored); at != end; at.increment(ignored)) {
      const std::string path = at->path().string();
      if (file_exists(path) && (is_folder || path.ends_with(".gguf"))) paths.push_back(path);
    }
  } else {
    paths.push_back(source);
  }
  std::sort(paths.begin(), paths.end());
  Json files = Json::array();
  for (const std::string& path : paths) files.push(file_identity(path));
  return Json::object()
      .set("path", std::filesystem::weakly_canonical(source, ignored).string())
      .set("files", std::move(files));
}

Json storage_json(const MatrixStorage& storage) {
  return Json::object()
      .set("type", dtype_name(storage.block_type))
      .set("mode", quant_mode_name(storage.params.mode))
      .set("bits", storage.params.bits)
      .set("group", storage.params.group_size)
      .set("scales", dtype_name(storage.scale_dtype));
}

template <typename Value>
Value known(const std::optional<Value>& value, const std::string& name) {
  if (!value) fail(ErrorCode::kCorruptData, "[quant] kept plan: got '{}', expected a type or mode of weights", name);
  return *value;
}

MatrixStorage read_storage(JsonObjectReader reader) {
  MatrixStorage storage;
  const std::string type = reader.get_string("type");
  const std::string mode = reader.get_string("mode");
  const std::string scales = reader.get_string("scales");
  storage.block_type = known(find_dtype(type), type);
  storage.params.mode = known(find_quant_mode(mode), mode);
  storage.params.bits = static_cast<int>(reader.get_int("bits", 0, 64));
  storage.params.group_size = static_cast<int>(reader.get_int("group", 0, 1024));
  storage.scale_dtype = known(find_dtype(scales), scales);
  return storage;
}

Json overrides_json(const std::vector<StorageOverride>& overrides) {
  Json list = Json::array();
  for (const StorageOverride& override : overrides) {
    Json row = Json::object().set("pattern", override.pattern);
    if (override.storage) row.set("storage", storage_json(*override.storage));
    list.push(std::move(row));
  }
  return list;
}

Json calibration_json(const std::vector<std::string>& paths) {
  Json list = Json::array();
  for (const std::string& path : paths) {
    const std::string text = read_file(path, kMaxTextBytes);
    list.push(Json::object()
                  .set("name", file_name(path))
                  .set("bytes", static_cast<int64_t>(text.size()))
                  .set("hash", fmt::format("{:016x}", content_hash(std::as_bytes(std::span(text))))));
  }
  return list;
}

std::span<const std::byte> bytes_of(const std::string& text) { return std::as_bytes(std::span(text)); }

std::string text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

StoragePlan read_plan(std::span<const std::byte> bytes) {
  const std::string origin = "[quant] kept plan";
  const Json rows = Json::parse(text_of(bytes), origin);
  StoragePlan plan;
  for (const Json& row : rows.as_array()) {
    JsonObjectReader reader(row, origin);
    PlannedStorage& planned = plan[{static_cast<TensorRole>(reader.get_int("role", 0, 255)),
                                    static_cast<int>(reader.get_int("layer", -1, INT32_MAX))}];
    if (reader.has("storage")) planned.storage = read_storage(reader.get_object("storage"));
    planned.predicted_loss = reader.get_number("predicted", -1e300, 1e300);
    planned.rounding_loss = reader.get_number("rounding", -1e300, 1e300);
  }
  return plan;
}

double size_of(EncodedMatrix& matrix) {
  return static_cast<double>(matrix.data().size() + matrix.scales().size() + matrix.biases().size());
}

// A part is the length of a JSON text, the text, and pieces. Takes the text off the front of `bytes`; nothing when what
// follows are not pieces of these sizes.
std::optional<Json> take_head(std::span<const std::byte>& bytes, std::span<const std::span<std::byte>> pieces,
                              const std::string& origin) {
  uint64_t n_text = 0;
  if (bytes.size() < sizeof(n_text)) return std::nullopt;
  std::memcpy(&n_text, bytes.data(), sizeof(n_text));
  bytes = bytes.subspan(sizeof(n_text));
  size_t n_pieces = 0;
  for (const std::span<std::byte> piece : pieces) n_pieces += piece.size();
  if (bytes.size() < n_text || bytes.size() - n_text != n_pieces) return std::nullopt;
  Json head = Json::parse(text_of(bytes.first(n_text)), origin);
  bytes = bytes.subspan(n_text);
  return head;
}

void fill(std::span<const std::byte> bytes, std::span<const std::span<std::byte>> pieces) {
  for (const std::span<std::byte> piece : pieces) {
    std::copy_n(bytes.begin(), piece.size(), piece.begin());
    bytes = bytes.subspan(piece.size());
  }
}

// `out` is untouched unless all is well.
std::optional<QuantizedMatrix> read_matrix(std::span<const std::byte> bytes, const std::string& name,
                                           const std::string& storage, EncodedMatrix& out) {
  const std::span<std::byte> pieces[] = {out.data(), out.scales(), out.biases()};
  const std::string origin = "[quant] kept matrix";
  const std::optional<Json> head = take_head(bytes, pieces, origin);
  if (!head) return std::nullopt;
  JsonObjectReader reader(*head, origin);
  if (reader.get_string("storage") != storage) return std::nullopt;
  QuantizedMatrix report;
  report.name = name;
  report.storage = storage;
  report.n_values = reader.get_int("values", 0, INT64_MAX);
  report.relative_error = reader.get_number("error", 0, 1e300);
  report.predicted_loss = reader.get_number("predicted", -1e300, 1e300);
  report.rounding_loss = reader.get_number("rounding", -1e300, 1e300);
  fill(bytes, pieces);
  return report;
}

}  // namespace

std::string run_identity(const QuantizeOptions& options) {
  Json text = Json::object();
  text.set("parts", kPartsVersion)
      .set("program", options.program)
      .set("source", source_identity(options.source))
      .set("format", model_format_name(options.format))
      .set("params", storage_json({DType::kU32, options.params, DType::kF32}))
      .set("block_type", dtype_name(options.block_type))
      .set("recipe", options.recipe == nullptr ? "" : options.recipe->name)
      .set("target_bpw", options.target_bpw ? Json(*options.target_bpw) : Json())
      .set("target_group", options.target_group ? Json(*options.target_group) : Json())
      .set("overrides", overrides_json(options.overrides))
      .set("method", quant_method_name(options.method))
      .set("seed", options.seed)
      .set("calibration", calibration_json(options.calibration))
      .set("calibration_tokens", options.calibration_tokens);
  return text.dump_pretty() + "\n";
}

KeptRun::KeptRun(const QuantizeOptions& options) {
  const std::string folder = unfinished_folder(options.target);
  const std::string identity = run_identity(options);
  try {
    store_.emplace(folder, identity);
  } catch (const Error& error) {
    if (error.code() == ErrorCode::kInvalidArgument) throw;
    give_up(error);
  }
}

void KeptRun::give_up(const Error& error) {
  note_ = fmt::format("an interruption of this run could not have been continued: {}", error.what());
  remove();
}

void KeptRun::remove() {
  if (store_) store_->remove();
  store_.reset();
}

void KeptRun::save(const std::string& name, std::span<const std::span<const std::byte>> pieces) {
  if (!store_) return;
  try {
    store_->save(name, pieces, unwritten_);
  } catch (const Error& error) {
    give_up(error);
  }
}

// A part that cannot be read is no loss: it is made again.
std::optional<StoragePlan> KeptRun::plan() const {
  if (!store_) return std::nullopt;
  try {
    const auto bytes = store_->load(kPlanName);
    return bytes ? std::optional(read_plan(*bytes)) : std::nullopt;
  } catch (const Error&) {
    return std::nullopt;
  }
}

void KeptRun::keep_plan(const StoragePlan& plan) {
  Json rows = Json::array();
  for (const auto& [matrix, planned] : plan) {
    Json row = Json::object()
                   .set("role", static_cast<int>(matrix.first))
                   .set("layer", matrix.second)
                   .set("predicted", planned.predicted_loss)
                   .set("rounding", planned.rounding_loss);
    if (planned.storage) row.set("storage", storage_json(*planned.storage));
    rows.push(std::move(row));
  }
  const std::string text = rows.dump();
  const std::array pieces = {bytes_of(text)};
  save(kPlanName, pieces);
}

std::optional<QuantizedMatrix> KeptRun::restore(const std::string& name, const std::string& storage,
                                                EncodedMatrix& out) {
  if (!store_) return std::nullopt;
  try {
    const auto bytes = store_->load(name);
    std::optional<QuantizedMatrix> report;
    if (bytes) report = read_matrix(*bytes, name, storage, out);
    if (report) unwritten_ -= size_of(out);
    return report;
  } catch (const Error&) {
    return std::nullopt;
  }
}

void KeptRun::keep(const QuantizedMatrix& report, EncodedMatrix& matrix) {
  const std::string text = Json::object()
                               .set("storage", report.storage)
                               .set("values", report.n_values)
                               .set("error", report.relative_error)
                               .set("predicted", report.predicted_loss)
                               .set("rounding", report.rounding_loss)
                               .dump();
  const uint64_t n_text = text.size();
  const std::array<std::span<const std::byte>, 5> pieces = {std::as_bytes(std::span(&n_text, 1)), bytes_of(text),
                                                            matrix.data(), matrix.scales(), matrix.biases()};
  save(report.name, pieces);
  unwritten_ -= size_of(matrix);
}

bool KeptRun::holds(const std::string& name) const {
  if (!store_) return false;
  try {
    return store_->load(name).has_value();
  } catch (const Error&) {
    return false;
  }
}

void KeptRun::keep_training(const std::string& settings, const DistillReport& report,
                            std::span<const std::span<std::byte>> state) {
  const std::string text = Json::object()
                               .set("settings", settings)
                               .set("before", report.before)
                               .set("after", report.after)
                               .set("step", report.best_step)
                               .dump();
  const uint64_t n_text = text.size();
  std::vector<std::span<const std::byte>> pieces = {std::as_bytes(std::span(&n_text, 1)), bytes_of(text)};
  pieces.insert(pieces.end(), state.begin(), state.end());
  save(kTrainingName, pieces);
}

std::optional<DistillReport> KeptRun::restore_training(const std::string& settings,
                                                       std::span<const std::span<std::byte>> state) {
  if (!store_) return std::nullopt;
  try {
    const auto part = store_->load(kTrainingName);
    if (!part) return std::nullopt;
    const std::string origin = "[quant] kept training";
    std::span<const std::byte> bytes = *part;
    const std::optional<Json> head = take_head(bytes, state, origin);
    if (!head) return std::nullopt;
    JsonObjectReader reader(*head, origin);
    if (reader.get_string("settings") != settings) return std::nullopt;
    DistillReport report;
    report.before = reader.get_number("before", 0, 1e300);
    report.after = reader.get_number("after", 0, 1e300);
    report.best_step = reader.get_int("step", 1, INT64_MAX);
    fill(bytes, state);
    return report;
  } catch (const Error&) {
    return std::nullopt;
  }
}

std::string KeptRun::hint() const {
  if (!store_ || store_->n_parts() == 0) return "";
  return fmt::format("; what is done is kept in {}: run the same command again to continue, or remove that folder",
                     store_->folder());
}

}  // namespace mobilellm
