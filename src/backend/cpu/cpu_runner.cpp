// The forward pass. block() is the transformer block; everything an architecture may vary is read from LayerSpec.
#include "backend/cpu/cpu_runner.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "backend/cpu/activations.h"
#include "backend/cpu/attention.h"
#include "backend/cpu/kv_cache.h"
#include "backend/cpu/linear.h"
#include "backend/cpu/panel_store.h"
#include "backend/cpu/rope.h"
#include "base/cpu_features.h"
#include "base/error.h"
#include "base/huge_memory.h"
#include "base/thread_pool.h"
#include "base/topology.h"

namespace mobilellm {
namespace {

// Rows of a batch that pass through the layers together: bounds the memory of activations.
constexpr size_t kMaxRows = 256;
// Work on so few numbers ends sooner than a second thread begins.
constexpr size_t kSerialNumbers = 4096;
// Results of one product in a task of activated_products(): all tokens, a few rows.
constexpr size_t kActivatedFloats = kMaxRows * 64;

struct Layer {
  LayerSpec spec;
  Linear q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj, plain_up, plain_down;
  std::vector<float> attention_norm, attention_post_norm, mlp_norm, mlp_post_norm, q_norm, k_norm;

  Layer(const LayerSpec& layer_spec, LayerWeights w, const KernelTable& kernels)
      : spec(layer_spec),
        q_proj(std::move(w.q_proj), kernels),
        k_proj(std::move(w.k_proj), kernels),
        v_proj(std::move(w.v_proj), kernels),
        o_proj(std::move(w.o_proj), kernels),
        gate_proj(std::move(w.gate_proj), kernels),
        up_proj(std::move(w.up_proj), kernels),
        down_proj(std::move(w.down_proj), kernels),
        attention_norm(std::move(w.attention_norm)),
        attention_post_norm(std::move(w.attention_post_norm)),
        mlp_norm(std::move(w.mlp_norm)),
        mlp_post_norm(std::move(w.mlp_post_norm)),
        q_norm(std::move(w.q_norm)),
        k_norm(std::move(w.k_norm)) {
    if (spec.mlp == MlpKind::kDualBranch) {
      plain_up = Linear(std::move(w.plain_up), kernels);
      plain_down = Linear(std::move(w.plain_down), kernels);
    }
  }
};

// One token on its way through the layers.
struct Row {
  int32_t token;
  int64_t pos;
  const SequenceSlice* slice;
  int64_t logits_row;  // -1: none wanted
};

KvDtype kv_dtype(const RunnerOptions& options) {
  if (options.kv_dtype != KvDtype::kAuto) return options.kv_dtype;
  return options.is_exact ? KvDtype::kF32 : KvDtype::kI16;
}

class CpuRunner final : public Runner {
 public:
  CpuRunner(const ModelSpec& spec, ModelWeights weights, const RunnerOptions& options)
      : spec_(spec),
        kernels_(kernel_table(select_isa())),
        pool_(options.n_threads > 0 ? options.n_threads : usable_cores()),
        source_(weights.source),
        embed_tokens_(weights.embed_tokens),
        final_norm_(std::move(weights.final_norm)),
        cache_(spec, kv_dtype(options), kernels_),
        attention_(spec_, kernels_, pool_, cache_) {
    MOBILELLM_CHECK(weights.layers.size() == spec_.layers.size());
    lm_head_ = Linear({spec_.is_output_tied ? weights.embed_tokens : weights.lm_head, {}}, kernels_);
    for (size_t i = 0; i < weights.layers.size(); ++i) {
      layers_.emplace_back(spec_.layers[i], std::move(weights.layers[i]), kernels_);
    }
    for (const RopeTable& table : spec_.rope_tables) rope_.emplace_back(table);
    panels_ = PanelStore(options.is_exact ? std::vector<Linear*>{} : linears(), *source_, pool_, options.on_progress);
    size_t scratch_bytes = 0;
    for (const Linear* linear : linears()) scratch_bytes = std::max(scratch_bytes, linear->scratch_bytes());
    products_bytes_ = (scratch_bytes + 63) / 64 * 64;
    scratch_bytes_ = products_bytes_ + 2 * kActivatedFloats * sizeof(float);
    scratch_ = HugeMemory(scratch_bytes_ * static_cast<size_t>(pool_.n_threads()), "scratch of the products");
  }

  const ModelSpec& spec() const override { return spec_; }
  int page_tokens() const override { return kPageTokens; }
  size_t kv_bytes_per_token() const override { return cache_.full_bytes_per_token() + cache_.window_bytes_per_token(); }
  size_t window_bytes_per_token() const override { return cache_.window_bytes_per_token(); }
  void reserve_pages(int n_pages) override { cache_.reserve_pages(n_pages); }
  void copy_page(int from, int to) override { cache_.copy_page(from, to); }
  void forget_window(int page) override { cache_.forget_window(page); }
  void set_hidden_observer(HiddenObserver observer) override { observer_ = std::move(observer); }

  void forward(std::span<const SequenceSlice> batch, float* logits) override {
    collect_rows(batch);
    for (size_t begin = 0; begin < rows_.size(); begin += kMaxRows) {
      forward_rows(std::span(rows_).subspan(begin, std::min(kMaxRows, rows_.size() - begin)), logits);
    }
  }

 private:
  struct Product {
    const Linear* linear;
    float* y;
  };

  void collect_rows(std::span<const SequenceSlice> batch) {
    rows_.clear();
    int64_t n_logits = 0;
    int64_t max_pos = 0;
    for (const SequenceSlice& slice : batch) {
      const auto n = static_cast<int64_t>(slice.tokens.size());
      if (slice.start_pos < 0 || slice.n_logits < 0 || slice.n_logits > n ||
          static_cast<int64_t>(slice.pages.size()) * kPageTokens < slice.start_pos + n) {
        fail(ErrorCode::kInvalidArgument, "[cpu] a slice of {} tokens at position {} has {} pages and wants {} logits",
             n, slice.start_pos, slice.pages.size(), slice.n_logits);
      }
      for (const int32_t page : slice.pages) {
        if (page < 0 || page >= cache_.n_pages()) {
          fail(ErrorCode::kInvalidArgument, "[cpu] page {} of {} does not exist", page, cache_.n_pages());
        }
      }
      for (int64_t i = 0; i < n; ++i) {
        const int32_t token = slice.tokens[static_cast<size_t>(i)];
        if (token < 0 || token >= spec_.vocab_size) {
          fail(ErrorCode::kInvalidArgument, "[cpu] token id {} is outside the vocabulary of {}", token,
               spec_.vocab_size);
        }
        rows_.push_back({token, slice.start_pos + i, &slice, i >= n - slice.n_logits ? n_logits++ : -1});
        max_pos = std::max(max_pos, slice.start_pos + i);
      }
    }
    for (RopeCache& rope : rope_) rope.reserve(max_pos + 1);
  }

  void forward_rows(std::span<const Row> rows, float* logits) {
    const size_t n = rows.size();
    const auto d_model = static_cast<size_t>(spec_.d_model);
    pending_norm_ = nullptr;
    hidden_.resize(std::max(hidden_.size(), n * d_model));
    normed_.resize(std::max(normed_.size(), n * d_model));
    branch_.resize(std::max(branch_.size(), n * d_model));
    for_rows(n, d_model, [&](size_t i) {
      float* x = hidden_.data() + i * d_model;
      const int64_t token = rows[i].token;
      embed_tokens_.codec->decode_rows(embed_tokens_, token, token + 1, x);
      if (spec_.embedding_scale != 1.0F) {
        for (size_t d = 0; d < d_model; ++d) x[d] *= spec_.embedding_scale;
      }
    });
    observe(0, n);
    attention_rows_.clear();
    for (const Row& row : rows) attention_rows_.push_back({row.pos, row.slice});
    attention_.plan(attention_rows_);
    for (int i = 0; i < spec_.n_layers(); ++i) {
      block(i, rows);
      if (observer_) settle(n);
      observe(i + 1, n);
    }
    if (observer_) {
      settle(n);
      norm_rows(final_norm_, n);
      observer_(spec_.n_layers() + 1, std::span(normed_.data(), n * d_model));
    }
    write_logits(rows, logits);
  }

  // x += attention(x); x += mlp(x), with norms where the layer wants them.
  void block(int index, std::span<const Row> rows) {
    const Layer& layer = layers_[static_cast<size_t>(index)];
    const size_t n = rows.size();
    attention(index, rows,
              next_input(layer.attention_norm, want_codes({&layer.q_proj, &layer.k_proj, &layer.v_proj}), n));
    pending_norm_ = &layer.attention_post_norm;
    mlp(index, n, next_input(layer.mlp_norm, want_codes({&layer.gate_proj, &layer.up_proj, &layer.plain_up}), n));
    pending_norm_ = &layer.mlp_post_norm;
  }

  // What waits in branch_ is added to row i of hidden_.
  void add_branch(size_t i) {
    const auto d_model = static_cast<size_t>(spec_.d_model);
    float* branch = branch_.data() + i * d_model;
    if (!pending_norm_->empty()) norm(pending_norm_->data(), branch, branch, spec_.d_model);
    kernels_.add({branch, hidden_.data() + i * d_model, spec_.d_model});
  }

  void settle(size_t n) {
    if (pending_norm_ == nullptr) return;
    for_rows(n, static_cast<size_t>(spec_.d_model), [&](size_t i) { add_branch(i); });
    pending_norm_ = nullptr;
  }

  // What the next linear layers read: hidden_ with the branch added, normed where there is a weight, and in 8 bits if
  // they want that.
  Linear::Input next_input(const std::vector<float>& weight, bool quantizes, size_t n) {
    const auto d_model = static_cast<size_t>(spec_.d_model);
    if (quantizes) codes_.reset(n, spec_.d_model);
    for_rows(n, d_model, [&](size_t i) {
      if (pending_norm_ != nullptr) add_branch(i);
      const float* input = hidden_.data() + i * d_model;
      if (!weight.empty()) {
        norm(weight.data(), input, normed_.data() + i * d_model, spec_.d_model);
        input = normed_.data() + i * d_model;
      }
      if (quantizes) codes_.quantize(kernels_, i, 0, spec_.d_model, input);
    });
    pending_norm_ = nullptr;
    return {weight.empty() ? hidden_.data() : normed_.data(), spec_.d_model,
            quantizes ? codes_.rows() : QuantizedRows{}, static_cast<int>(n)};
  }

  // Its result goes to branch_.
  void attention(int index, std::span<const Row> rows, const Linear::Input& input) {
    const Layer& layer = layers_[static_cast<size_t>(index)];
    const LayerSpec& spec = layer.spec;
    const size_t n = rows.size();
    const auto q_width = static_cast<size_t>(spec.n_heads) * static_cast<size_t>(spec.head_dim);
    const auto kv_width = static_cast<size_t>(spec.n_kv_heads) * static_cast<size_t>(spec.head_dim);
    q_.resize(std::max(q_.size(), n * q_width));
    k_.resize(std::max(k_.size(), n * kv_width));
    v_.resize(std::max(v_.size(), n * kv_width));
    attended_.resize(std::max(attended_.size(), n * q_width));
    multiply({{&layer.q_proj, q_.data()}, {&layer.k_proj, k_.data()}, {&layer.v_proj, v_.data()}}, input);

    const auto groups = attention_.store_groups();
    pool_.run(static_cast<int64_t>(groups.size()), [&](int64_t group, int) {
      for (size_t i = groups[static_cast<size_t>(group)].begin; i < groups[static_cast<size_t>(group)].end; ++i) {
        const Row& row = rows[i];
        float* q = q_.data() + i * q_width;
        float* k = k_.data() + i * kv_width;
        prepare_heads(layer, row.pos, q, spec.n_heads, layer.q_norm);
        prepare_heads(layer, row.pos, k, spec.n_kv_heads, layer.k_norm);
        const float scale = spec.score_scale * query_temperature(spec, row.pos);
        for (size_t d = 0; d < q_width; ++d) q[d] *= scale;
        cache_.store(index, row.slice->pages[static_cast<size_t>(row.pos / kPageTokens)],
                     static_cast<int>(row.pos % kPageTokens), k, v_.data() + i * kv_width);
      }
    });
    attention_.run(index, q_.data(), attended_.data());
    multiply({{&layer.o_proj, branch_.data()}}, input_of(attended_.data(), layer.o_proj, n));
  }

  // Norm and rotation of the heads of one row.
  void prepare_heads(const Layer& layer, int64_t pos, float* heads, int n_heads,
                     const std::vector<float>& weight) const {
    const LayerSpec& spec = layer.spec;
    if (spec.qk_norm == QkNorm::kFullWidth) norm(weight.data(), heads, heads, int64_t{n_heads} * spec.head_dim);
    if (spec.qk_norm == QkNorm::kPerHead) norm_heads(weight.data(), heads, n_heads, spec.head_dim);
    if (spec.rope_style != RopeStyle::kNone) {
      const RopeCache& rope = rope_[static_cast<size_t>(spec.rope_table)];
      apply_rope(spec.rope_style, rope.cosines(pos), rope.sines(pos), spec.head_dim, n_heads, heads);
    }
    if (spec.qk_norm == QkNorm::kWeightless) norm_heads(nullptr, heads, n_heads, spec.head_dim);
  }

  static float query_temperature(const LayerSpec& spec, int64_t pos) {
    if (!spec.temperature.is_on) return 1.0F;
    const double steps = std::floor((static_cast<double>(pos) + 1.0) / spec.temperature.floor_scale);
    return static_cast<float>(std::log1p(steps) * spec.temperature.attn_scale + 1.0);
  }

  // Its result goes to branch_.
  void mlp(int index, size_t n, const Linear::Input& input) {
    const Layer& layer = layers_[static_cast<size_t>(index)];
    const bool has_plain = layer.spec.mlp == MlpKind::kDualBranch;
    gated_.linears = {&layer.gate_proj, &layer.up_proj, &layer.down_proj};
    plain_.linears = {has_plain ? &layer.plain_up : nullptr, nullptr, &layer.plain_down};
    activated_products(layer, input);
    multiply({{&layer.down_proj, branch_.data()}}, gated_.input(input.n_tokens));
    if (!has_plain) return;
    const auto d_model = static_cast<size_t>(spec_.d_model);
    plain_out_.resize(std::max(plain_out_.size(), n * d_model));
    multiply({{&layer.plain_down, plain_out_.data()}}, plain_.input(input.n_tokens));
    for_rows(n, d_model, [&](size_t i) {
      kernels_.add({plain_out_.data() + i * d_model, branch_.data() + i * d_model, spec_.d_model});
    });
  }

  // One branch of an MLP up to its down projection: act(first x) * second x, or act(first x) alone.
  struct MlpBranch {
    struct Linears {
      const Linear* first;  // Null: there is no such branch.
      const Linear* second;
      const Linear* down;
    };
    Linears linears{};
    ActivationCodes codes;      // What `down` reads if it wants codes.
    std::vector<float> floats;  // Written where someone reads them.

    Linear::Input input(int n_tokens) const {
      return {floats.data(), linears.down->cols(), linears.down->uses_panels() ? codes.rows() : QuantizedRows{},
              n_tokens};
    }
  };

  // A task computes the same rows of both products, so that what follows finds them in its cache.
  void activated_products(const Layer& layer, const Linear::Input& input) {
    const auto n = static_cast<size_t>(input.n_tokens);
    auto* const activate = layer.spec.activation == Activation::kSilu ? kernels_.silu_mul : kernels_.gelu_tanh_mul;
    int64_t n_tasks = 0;
    for (MlpBranch* branch : {&gated_, &plain_}) {
      if (branch->linears.first == nullptr) continue;
      const int64_t cols = branch->linears.down->cols();
      branch->codes.reset(n, cols);
      if (!branch->linears.down->uses_panels()) {
        branch->floats.resize(std::max(branch->floats.size(), n * static_cast<size_t>(cols)));
      }
      n_tasks += (cols + activated_rows(*branch, n) - 1) / activated_rows(*branch, n);
    }
    pool_.run(n_tasks, [&](int64_t task, int worker) {
      const int64_t n_gated = (gated_.linears.down->cols() + activated_rows(gated_, n) - 1) / activated_rows(gated_, n);
      MlpBranch& branch = task < n_gated ? gated_ : plain_;
      const int64_t cols = branch.linears.down->cols();
      const int64_t step = activated_rows(branch, n);
      const int64_t begin = (task < n_gated ? task : task - n_gated) * step;
      const int64_t width = std::min(step, cols - begin);
      std::byte* scratch = scratch_of(worker);
      auto* first = reinterpret_cast<float*>(scratch + products_bytes_);
      float* second = branch.linears.second == nullptr ? nullptr : first + kActivatedFloats;
      branch.linears.first->run(begin, begin + width, input, first, width, scratch);
      if (second != nullptr) branch.linears.second->run(begin, begin + width, input, second, width, scratch);
      activate({first, second, first, static_cast<int64_t>(n) * width});
      for (size_t i = 0; i < n; ++i) {
        const float* row = first + i * static_cast<size_t>(width);
        if (branch.linears.down->uses_panels()) {
          branch.codes.quantize(kernels_, i, begin, width, row);
        } else {
          std::copy_n(row, width, branch.floats.data() + static_cast<int64_t>(i) * cols + begin);
        }
      }
    });
  }

  // Rows of a task of activated_products(): whole strips of activations, as many as fit in its scratch.
  int64_t activated_rows(const MlpBranch& branch, size_t n) const {
    const int n_tokens = static_cast<int>(n);
    // Two products each: half as many rows keep tasks short.
    const int n_threads = 2 * pool_.n_threads();
    int64_t rows = branch.linears.first->task_rows(n_tokens, n_threads);
    if (branch.linears.second != nullptr) rows = std::min(rows, branch.linears.second->task_rows(n_tokens, n_threads));
    const auto most = static_cast<int64_t>(kActivatedFloats / n);
    return std::clamp(rows, int64_t{kStripCols}, most) / kStripCols * kStripCols;
  }

  // n rows in memory as the input of `linear`.
  Linear::Input input_of(const float* x, const Linear& linear, size_t n) {
    const int64_t cols = linear.cols();
    if (!linear.uses_panels()) return {x, cols, {}, static_cast<int>(n)};
    codes_.reset(n, cols);
    for_rows(n, static_cast<size_t>(cols),
             [&](size_t i) { codes_.quantize(kernels_, i, 0, cols, x + static_cast<int64_t>(i) * cols); });
    return {x, cols, codes_.rows(), static_cast<int>(n)};
  }

  // Several products of the same input in one parallel region.
  void multiply(std::initializer_list<Product> products, const Linear::Input& input) {
    int64_t n_tasks = 0;
    for (const Product& p : products) n_tasks += task_count(*p.linear, input.n_tokens);
    pool_.run(n_tasks, [&](int64_t task, int worker) {
      for (const Product& p : products) {
        const int64_t count = task_count(*p.linear, input.n_tokens);
        if (task >= count) {
          task -= count;
          continue;
        }
        const int64_t step = p.linear->task_rows(input.n_tokens, pool_.n_threads());
        const int64_t begin = task * step;
        p.linear->run(begin, std::min(begin + step, p.linear->rows()), input, p.y + begin, p.linear->rows(),
                      scratch_of(worker));
        return;
      }
    });
  }

  // f(row) for all rows, `width` numbers of work each, a few rows a task.
  template <typename F>
  void for_rows(size_t n, size_t width, F f) {
    if (n == 0) return;
    const auto n_threads = static_cast<size_t>(pool_.n_threads());
    const size_t step = n * width <= kSerialNumbers ? n : (n + 4 * n_threads - 1) / (4 * n_threads);
    pool_.run(static_cast<int64_t>((n + step - 1) / step), [&](int64_t task, int) {
      const size_t begin = static_cast<size_t>(task) * step;
      for (size_t i = begin; i < std::min(begin + step, n); ++i) f(i);
    });
  }

  std::byte* scratch_of(int worker) const { return scratch_.data() + static_cast<size_t>(worker) * scratch_bytes_; }

  std::vector<Linear*> linears() {
    std::vector<Linear*> all;
    for (Layer& layer : layers_) {
      for (Linear* linear : {&layer.q_proj, &layer.k_proj, &layer.v_proj, &layer.o_proj, &layer.gate_proj,
                             &layer.up_proj, &layer.down_proj, &layer.plain_up, &layer.plain_down}) {
        if (linear->rows() > 0) all.push_back(linear);
      }
    }
    all.push_back(&lm_head_);
    return all;
  }

  static bool want_codes(std::initializer_list<const Linear*> linears) {
    return std::any_of(linears.begin(), linears.end(), [](const Linear* linear) { return linear->uses_panels(); });
  }

  int64_t task_count(const Linear& linear, int n_tokens) const {
    const int64_t step = linear.task_rows(n_tokens, pool_.n_threads());
    return (linear.rows() + step - 1) / step;
  }

  void write_logits(std::span<const Row> rows, float* logits) {
    const auto d_model = static_cast<size_t>(spec_.d_model);
    wanted_.clear();
    for (size_t i = 0; i < rows.size(); ++i) {
      if (rows[i].logits_row >= 0) wanted_.push_back(i);
    }
    const size_t n = wanted_.size();
    const bool quantizes = lm_head_.uses_panels();
    if (quantizes) codes_.reset(n, spec_.d_model);
    for_rows(n, d_model, [&](size_t i) {
      const size_t row = wanted_[i];
      float* normed = normed_.data() + i * d_model;
      if (pending_norm_ != nullptr) add_branch(row);
      norm(final_norm_.data(), hidden_.data() + row * d_model, normed, spec_.d_model);
      if (quantizes) codes_.quantize(kernels_, i, 0, spec_.d_model, normed);
    });
    pending_norm_ = nullptr;
    if (n == 0) return;
    multiply({{&lm_head_, logits + rows[wanted_.front()].logits_row * spec_.vocab_size}},
             {normed_.data(), spec_.d_model, quantizes ? codes_.rows() : QuantizedRows{}, static_cast<int>(n)});
  }

  void norm(const float* weight, const float* x, float* y, int64_t n) const {
    kernels_.rms_norm({x, weight, y, n, spec_.norm_eps});
  }
  void norm_heads(const float* weight, float* heads, int n_heads, int head_dim) const {
    for (int head = 0; head < n_heads; ++head) norm(weight, heads + head * head_dim, heads + head * head_dim, head_dim);
  }
  void norm_rows(const std::vector<float>& weight, size_t n) {
    const auto d_model = static_cast<size_t>(spec_.d_model);
    for_rows(n, d_model, [&](size_t i) {
      norm(weight.data(), hidden_.data() + i * d_model, normed_.data() + i * d_model, spec_.d_model);
    });
  }
  void observe(int index, size_t n) {
    if (observer_) observer_(index, std::span(hidden_.data(), n * static_cast<size_t>(spec_.d_model)));
  }

  ModelSpec spec_;
  const KernelTable& kernels_;
  ThreadPool pool_;
  std::shared_ptr<WeightSource> source_;
  StoredMatrix embed_tokens_;
  Linear lm_head_;
  std::vector<float> final_norm_;
  std::vector<Layer> layers_;
  KvCache cache_;
  Attention attention_;
  std::vector<RopeCache> rope_;
  HiddenObserver observer_;

  std::vector<Row> rows_;
  std::vector<AttentionRow> attention_rows_;
  PanelStore panels_;
  HugeMemory scratch_;         // of every worker
  size_t products_bytes_ = 0;  // of a worker's, for the products; then come the results of activated_products()
  size_t scratch_bytes_ = 0;
  ActivationCodes codes_;
  MlpBranch gated_, plain_;
  std::vector<size_t> wanted_;  // Rows whose logits are wanted.
  std::vector<float> hidden_, normed_, branch_, q_, k_, v_, attended_, plain_out_;
  // The post norm, perhaps empty, of what waits in branch_ to be added to hidden_; null when nothing waits.
  const std::vector<float>* pending_norm_ = nullptr;
};

}  // namespace

std::unique_ptr<Runner> create_cpu_runner(const ModelSpec& spec, ModelWeights weights, const RunnerOptions& options) {
  return std::make_unique<CpuRunner>(spec, std::move(weights), options);
}

}  // namespace mobilellm
