// Running models for golden tests.
#include "golden_model.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <limits>

#include "base/error.h"
#include "codec/codec.h"

namespace mobilellm {

std::string golden_path(const std::string& name) { return std::string(MOBILELLM_SOURCE_DIR "/tests/golden/") + name; }

std::vector<std::string> list_golden(const std::string& folder, const std::string& suffix) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(golden_path(folder))) {
    const std::string name = entry.path().filename().string();
    if (suffix == "/") {
      if (entry.is_directory()) names.push_back(name);
    } else if (name.ends_with(suffix)) {
      names.push_back(name.substr(0, name.size() - suffix.size()));
    }
  }
  std::sort(names.begin(), names.end());
  return names;
}

std::vector<int32_t> read_ids(const WeightSource& source, const std::string& name) {
  const TensorView& tensor = source.get(name);
  std::vector<int32_t> ids(static_cast<size_t>(tensor.n_values()));
  for (size_t i = 0; i < ids.size(); ++i) {
    if (tensor.dtype == DType::kI64) {
      int64_t id = 0;
      std::memcpy(&id, tensor.data.data() + i * sizeof(id), sizeof(id));
      ids[i] = static_cast<int32_t>(id);
    } else {
      MOBILELLM_CHECK(tensor.dtype == DType::kI32);
      std::memcpy(&ids[i], tensor.data.data() + i * sizeof(int32_t), sizeof(int32_t));
    }
  }
  return ids;
}

std::vector<int32_t> to_ids(const Json& list) {
  std::vector<int32_t> ids;
  for (const Json& id : list.as_array()) ids.push_back(static_cast<int32_t>(id.as_int()));
  return ids;
}

std::vector<double> to_numbers(const Json& list) {
  std::vector<double> numbers;
  for (const Json& number : list.as_array()) numbers.push_back(number.as_double());
  return numbers;
}

GoldenModel::GoldenModel(const std::string& path, int n_threads, KvDtype kv_dtype, bool is_exact)
    : loaded_(load_model(path)) {
  RunnerOptions options;
  options.is_exact = is_exact;
  options.n_threads = n_threads;
  options.kv_dtype = kv_dtype;
  runner_ = create_runner("cpu", loaded_.spec, std::move(loaded_.weights), options);
}

GoldenSequence GoldenModel::start(std::vector<int32_t> tokens, size_t max_tokens) {
  GoldenSequence sequence;
  const size_t n = std::max(max_tokens, tokens.size());
  sequence.tokens = std::move(tokens);
  const auto page_tokens = static_cast<size_t>(runner_->page_tokens());
  const int n_new = static_cast<int>((n + page_tokens - 1) / page_tokens);
  for (int i = n_new - 1; i >= 0; --i) sequence.pages.push_back(n_pages_ + i);
  n_pages_ += n_new;
  runner_->reserve_pages(n_pages_);
  return sequence;
}

void GoldenModel::feed(std::span<GoldenSequence*> sequences, std::span<const size_t> counts) {
  std::vector<SequenceSlice> batch;
  size_t n_rows = 0;
  for (size_t i = 0; i < sequences.size(); ++i) {
    const GoldenSequence& sequence = *sequences[i];
    SequenceSlice slice;
    slice.tokens = std::span(sequence.tokens).subspan(static_cast<size_t>(sequence.n_done), counts[i]);
    slice.start_pos = sequence.n_done;
    slice.pages = sequence.pages;
    slice.n_logits = static_cast<int>(counts[i]);
    batch.push_back(slice);
    n_rows += counts[i];
  }
  std::vector<float> logits(n_rows * vocab_size());
  runner_->forward(batch, logits.data());
  auto row = logits.begin();
  for (size_t i = 0; i < sequences.size(); ++i) {
    const auto end = row + static_cast<std::ptrdiff_t>(counts[i] * vocab_size());
    sequences[i]->logits.insert(sequences[i]->logits.end(), row, end);
    sequences[i]->n_done += static_cast<int64_t>(counts[i]);
    row = end;
  }
}

std::vector<float> GoldenModel::logits(const std::vector<int32_t>& ids, size_t chunk) {
  GoldenSequence sequence = start(ids);
  if (chunk == 0) chunk = ids.size();
  for (size_t begin = 0; begin < ids.size(); begin += chunk) {
    GoldenSequence* pointer = &sequence;
    const size_t count = std::min(chunk, ids.size() - begin);
    feed({&pointer, 1}, {&count, 1});
  }
  return sequence.logits;
}

std::vector<int32_t> GoldenModel::greedy(const std::vector<int32_t>& prompt, size_t n, std::span<const int64_t> stops) {
  GoldenSequence sequence = start(prompt, prompt.size() + n);
  GoldenSequence* pointer = &sequence;
  size_t count = prompt.size();
  std::vector<int32_t> output;
  while (true) {
    feed({&pointer, 1}, {&count, 1});
    const std::span<const float> row = std::span<const float>(sequence.logits).last(vocab_size());
    output.push_back(argmax(row));
    if (output.size() == n || std::find(stops.begin(), stops.end(), output.back()) != stops.end()) return output;
    sequence.tokens.push_back(output.back());
    count = 1;
  }
}

std::vector<double> GoldenModel::log_probabilities(const std::vector<int32_t>& context,
                                                   const std::vector<int32_t>& continuation) {
  std::vector<int32_t> ids = context;
  ids.insert(ids.end(), continuation.begin(), continuation.end());
  const std::vector<float> rows = logits(ids);
  std::vector<double> result;
  for (size_t i = 0; i < continuation.size(); ++i) {
    const auto row = std::span<const float>(rows).subspan((context.size() + i - 1) * vocab_size(), vocab_size());
    result.push_back(log_probability(row, continuation[i]));
  }
  return result;
}

double log_sum_exp(std::span<const float> row) {
  const double max = *std::max_element(row.begin(), row.end());
  double sum = 0;
  for (const float value : row) sum += std::exp(static_cast<double>(value) - max);
  return max + std::log(sum);
}

double kl_divergence(std::span<const float> expected, std::span<const float> got) {
  const double expected_sum = log_sum_exp(expected);
  const double got_sum = log_sum_exp(got);
  double sum = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    const double log_p = static_cast<double>(expected[i]) - expected_sum;
    sum += std::exp(log_p) * (log_p - (static_cast<double>(got[i]) - got_sum));
  }
  return sum;
}

double log_probability(std::span<const float> row, int32_t id) {
  return static_cast<double>(row[static_cast<size_t>(id)]) - log_sum_exp(row);
}

int32_t argmax(std::span<const float> row) {
  return static_cast<int32_t>(std::max_element(row.begin(), row.end()) - row.begin());
}

Difference max_difference(std::span<const float> got, std::span<const float> expected) {
  MOBILELLM_CHECK(got.size() == expected.size());
  Difference worst;
  for (size_t i = 0; i < got.size(); ++i) {
    double difference = std::fabs(static_cast<double>(got[i]) - static_cast<double>(expected[i]));
    if (std::isnan(difference)) difference = std::numeric_limits<double>::infinity();
    if (difference > worst.value) worst = {difference, i};
  }
  return worst;
}

}  // namespace mobilellm
