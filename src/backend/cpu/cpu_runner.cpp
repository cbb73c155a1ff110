// The forward pass. block() is the transformer block; everything an architecture may vary is read from LayerSpec.
#include "backend/cpu/cpu_runner.h"

#include <algorithm>
#include <cmath>
#include <cstring>

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
  return options.is_exact ? KvDtype::kF32 : KvDtype::kF16;
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
    scratch_bytes_ = (scratch_bytes + 63) / 64 * 64;
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
  void set_input_observer(InputObserver observer) override { input_observer_ = std::move(observer); }

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
    hidden_.resize(std::max(hidden_.size(), n * d_model));
    normed_.resize(std::max(normed_.size(), n * d_model));
    branch_.resize(std::max(branch_.size(), n * d_model));
    pool_.run(static_cast<int64_t>(n), [&](int64_t i, int) {
      float* x = hidden_.data() + static_cast<size_t>(i) * d_model;
      const int64_t token = rows[static_cast<size_t>(i)].token;
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
      observe(i + 1, n);
    }
    if (observer_ || input_observer_) {
      norm_rows(final_norm_, hidden_.data(), normed_.data(), n);
      if (observer_) observer_(spec_.n_layers() + 1, std::span(normed_.data(), n * d_model));
      observe_input(spec_.n_layers(), LinearInput::kHead, normed_.data(), n);
    }
    write_logits(rows, logits);
  }

  // x += attention(x); x += mlp(x), with norms where the layer wants them.
  void block(int index, std::span<const Row> rows) {
    const Layer& layer = layers_[static_cast<size_t>(index)];
    const size_t n = rows.size();
    const float* input = hidden_.data();
    if (!layer.attention_norm.empty()) {
      norm_rows(layer.attention_norm, hidden_.data(), normed_.data(), n);
      input = normed_.data();
    }
    attention(index, rows, input, branch_.data());
    if (!layer.attention_post_norm.empty()) norm_rows(layer.attention_post_norm, branch_.data(), branch_.data(), n);
    add_rows(branch_.data(), n);

    input = hidden_.data();
    if (!layer.mlp_norm.empty()) {
      norm_rows(layer.mlp_norm, hidden_.data(), normed_.data(), n);
      input = normed_.data();
    }
    mlp(index, n, input, branch_.data());
    if (!layer.mlp_post_norm.empty()) norm_rows(layer.mlp_post_norm, branch_.data(), branch_.data(), n);
    add_rows(branch_.data(), n);
  }

  void attention(int index, std::span<const Row> rows, const float* input, float* out) {
    const Layer& layer = layers_[static_cast<size_t>(index)];
    const LayerSpec& spec = layer.spec;
    const size_t n = rows.size();
    const auto q_width = static_cast<size_t>(spec.n_heads) * static_cast<size_t>(spec.head_dim);
    const auto kv_width = static_cast<size_t>(spec.n_kv_heads) * static_cast<size_t>(spec.head_dim);
    q_.resize(std::max(q_.size(), n * q_width));
    k_.resize(std::max(k_.size(), n * kv_width));
    v_.resize(std::max(v_.size(), n * kv_width));
    attended_.resize(std::max(attended_.size(), n * q_width));
    observe_input(index, LinearInput::kAttention, input, n);
    multiply({{&layer.q_proj, q_.data()}, {&layer.k_proj, k_.data()}, {&layer.v_proj, v_.data()}}, input, n);

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
    observe_input(index, LinearInput::kAttentionOutput, attended_.data(), n);
    multiply({{&layer.o_proj, out}}, attended_.data(), n);
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

  void mlp(int index, size_t n, const float* input, float* out) {
    const Layer& layer = layers_[static_cast<size_t>(index)];
    observe_input(index, LinearInput::kMlp, input, n);
    const auto d_ff = static_cast<size_t>(layer.spec.d_ff);
    gate_.resize(std::max(gate_.size(), n * d_ff));
    up_.resize(std::max(up_.size(), n * d_ff));
    if (layer.spec.mlp == MlpKind::kGated) {
      multiply({{&layer.gate_proj, gate_.data()}, {&layer.up_proj, up_.data()}}, input, n);
    } else {
      plain_.resize(std::max(plain_.size(), n * static_cast<size_t>(layer.spec.d_ff_plain)));
      multiply({{&layer.gate_proj, gate_.data()}, {&layer.up_proj, up_.data()}, {&layer.plain_up, plain_.data()}},
               input, n);
    }
    activate(layer.spec.activation, gate_.data(), up_.data(), n, layer.spec.d_ff);
    observe_input(index, LinearInput::kMlpDown, gate_.data(), n);
    multiply({{&layer.down_proj, out}}, gate_.data(), n);
    if (layer.spec.mlp == MlpKind::kDualBranch) {
      activate(layer.spec.activation, plain_.data(), nullptr, n, layer.spec.d_ff_plain);
      observe_input(index, LinearInput::kPlainDown, plain_.data(), n);
      plain_out_.resize(std::max(plain_out_.size(), n * static_cast<size_t>(spec_.d_model)));
      multiply({{&layer.plain_down, plain_out_.data()}}, plain_.data(), n);
      for (size_t i = 0; i < n; ++i)
        add_row(plain_out_.data() + i * static_cast<size_t>(spec_.d_model),
                out + i * static_cast<size_t>(spec_.d_model));
    }
  }

  void activate(Activation activation, float* gate, const float* up, size_t n, int width) {
    auto* const kernel = activation == Activation::kSilu ? kernels_.silu_mul : kernels_.gelu_tanh_mul;
    pool_.run(static_cast<int64_t>(n), [&](int64_t i, int) {
      float* row = gate + i * width;
      kernel({row, up == nullptr ? nullptr : up + i * width, row, width});
    });
  }

  // Several products of the same input in one parallel region.
  void multiply(std::initializer_list<Product> products, const float* x, size_t n) {
    const int n_tokens = static_cast<int>(n);
    const int64_t cols = products.begin()->linear->cols();
    Linear::Input input{x, cols, {}, n_tokens};
    bool is_quantized = false;
    int64_t n_tasks = 0;
    for (const Product& p : products) {
      is_quantized = is_quantized || p.linear->uses_panels();
      n_tasks += task_count(*p.linear, n_tokens);
    }
    if (is_quantized) input.quantized = quantize(x, cols, n);
    pool_.run(n_tasks, [&](int64_t task, int worker) {
      for (const Product& p : products) {
        const int64_t count = task_count(*p.linear, n_tokens);
        if (task >= count) {
          task -= count;
          continue;
        }
        const int64_t step = p.linear->task_rows(n_tokens, pool_.n_threads());
        const int64_t begin = task * step;
        p.linear->run(begin, std::min(begin + step, p.linear->rows()), input, p.y, p.linear->rows(),
                      scratch_.data() + static_cast<size_t>(worker) * scratch_bytes_);
        return;
      }
    });
  }

  QuantizedRows quantize(const float* x, int64_t cols, size_t n) {
    const int64_t n_blocks = (cols + kBlockCols - 1) / kBlockCols;
    const size_t total = n * static_cast<size_t>(n_blocks);
    if (input_scales_.size() < total) {
      input_codes_.resize(total * kBlockCols);
      input_scales_.resize(total);
      input_sums_.resize(total);
      input_zeros_.resize(total);
    }
    const QuantizedRows all{input_codes_.data(), input_scales_.data(), input_zeros_.data(), input_sums_.data(),
                            n_blocks};
    const auto quantize_row = [&](int64_t i, int) {
      const int64_t at = i * n_blocks;
      kernels_.quantize_rows({x + i * cols,
                              cols,
                              1,
                              cols,
                              {all.codes + at * kBlockCols, all.scales + at, all.zeros + at, all.sums + at, n_blocks}});
    };
    if (n == 1) {
      quantize_row(0, 0);
    } else {
      pool_.run(static_cast<int64_t>(n), quantize_row);
    }
    return all;
  }

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

  int64_t task_count(const Linear& linear, int n_tokens) const {
    const int64_t step = linear.task_rows(n_tokens, pool_.n_threads());
    return (linear.rows() + step - 1) / step;
  }

  void write_logits(std::span<const Row> rows, float* logits) {
    const auto d_model = static_cast<size_t>(spec_.d_model);
    size_t n = 0;
    int64_t first = -1;
    for (size_t i = 0; i < rows.size(); ++i) {
      if (rows[i].logits_row < 0) continue;
      if (first < 0) first = rows[i].logits_row;
      norm(final_norm_.data(), hidden_.data() + i * d_model, normed_.data() + n * d_model, spec_.d_model);
      ++n;
    }
    if (n > 0) multiply({{&lm_head_, logits + first * spec_.vocab_size}}, normed_.data(), n);
  }

  void norm(const float* weight, const float* x, float* y, int64_t n) const {
    kernels_.rms_norm({x, weight, y, n, spec_.norm_eps});
  }
  void norm_heads(const float* weight, float* heads, int n_heads, int head_dim) const {
    for (int head = 0; head < n_heads; ++head) norm(weight, heads + head * head_dim, heads + head * head_dim, head_dim);
  }
  void norm_rows(const std::vector<float>& weight, const float* x, float* y, size_t n) {
    pool_.run(static_cast<int64_t>(n), [&](int64_t i, int) {
      norm(weight.data(), x + i * spec_.d_model, y + i * spec_.d_model, spec_.d_model);
    });
  }
  void add_row(const float* x, float* y) const { kernels_.add({x, y, spec_.d_model}); }
  void add_rows(const float* x, size_t n) {
    for (size_t i = 0; i < n; ++i)
      add_row(x + i * static_cast<size_t>(spec_.d_model), hidden_.data() + i * static_cast<size_t>(spec_.d_model));
  }

  void observe(int index, size_t n) {
    if (observer_) observer_(index, std::span(hidden_.data(), n * static_cast<size_t>(spec_.d_model)));
  }

  void observe_input(int layer, LinearInput input, const float* x, size_t n) {
    if (input_observer_) input_observer_(layer, input, x, static_cast<int64_t>(n));
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
  InputObserver input_observer_;

  std::vector<Row> rows_;
  std::vector<AttentionRow> attention_rows_;
  PanelStore panels_;
  HugeMemory scratch_;  // of every worker
  size_t scratch_bytes_ = 0;
  std::vector<uint8_t> input_codes_;
  std::vector<float> input_scales_, input_sums_;
  std::vector<int32_t> input_zeros_;
  std::vector<float> hidden_, normed_, branch_, q_, k_, v_, attended_, gate_, up_, plain_, plain_out_;
};

}  // namespace

std::unique_ptr<Runner> create_cpu_runner(const ModelSpec& spec, ModelWeights weights, const RunnerOptions& options) {
  return std::make_unique<CpuRunner>(spec, std::move(weights), options);
}

}  // namespace mobilellm
