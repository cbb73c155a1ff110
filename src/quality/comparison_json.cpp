// Comparisons as JSON.
#include "quality/comparison_json.h"

#include <algorithm>

#include "base/utf8.h"

namespace mobilellm {
namespace {

constexpr int64_t kContextTokens = 48;

Json text_json(const TextComparison& text) {
  Json json = Json::object();
  if (!text.path.empty()) json.set("path", text.path);
  const Estimate ratio = text.ppl_ratio();
  return json.set("chunks", text.n_chunks)
      .set("positions", text.n_positions)
      .set("left_out_tokens", text.n_left_out)
      .set("kl_mean", text.kl.mean)
      .set("kl_error", text.kl.error)
      .set("kl_median", text.kl_median)
      .set("kl_p90", text.kl_p90)
      .set("kl_p99", text.kl_p99)
      .set("kl_max", text.kl_max)
      .set("nll_a", text.nll_a.mean)
      .set("nll_b", text.nll_b.mean)
      .set("ppl_a", exponential(text.nll_a).mean)
      .set("ppl_a_error", exponential(text.nll_a).error)
      .set("ppl_b", exponential(text.nll_b).mean)
      .set("ppl_b_error", exponential(text.nll_b).error)
      .set("ppl_ratio", ratio.mean)
      .set("ppl_ratio_error", ratio.error)
      .set("top1_agreement", text.top1_agreement.mean)
      .set("top1_agreement_error", text.top1_agreement.error);
}

}  // namespace

std::vector<FlipText> flip_texts(const ComparisonReport& report, std::span<const TextSet> sets,
                                 const Tokenizer& tokenizer) {
  std::vector<FlipText> texts;
  for (const Flip& flip : report.flips) {
    const std::vector<int32_t>& ids = sets[flip.set].chunks[flip.chunk];
    const int64_t begin = std::max<int64_t>(0, flip.position + 1 - kContextTokens);
    const auto before =
        std::span(ids).subspan(static_cast<size_t>(begin), static_cast<size_t>(flip.position + 1 - begin));
    const auto next = static_cast<size_t>(flip.position) + 1;
    texts.push_back({tokenizer.decode(before), repair_utf8(tokenizer.token_bytes(flip.token_a)),
                     repair_utf8(tokenizer.token_bytes(flip.token_b)),
                     next < ids.size() ? repair_utf8(tokenizer.token_bytes(ids[next])) : ""});
  }
  return texts;
}

void add_comparison(Json& json, const ComparisonReport& report, std::span<const FlipText> flips) {
  Json texts = Json::array();
  for (const TextComparison& text : report.texts) texts.push(text_json(text));
  Json shown = Json::array();
  for (size_t i = 0; i < flips.size(); ++i) {
    const Flip& flip = report.flips[i];
    shown.push(Json::object()
                   .set("path", report.texts[flip.set].path)
                   .set("chunk", static_cast<int64_t>(flip.chunk))
                   .set("position", flip.position)
                   .set("before", flips[i].before)
                   .set("actual", flips[i].actual)
                   .set("a", flips[i].text_a)
                   .set("b", flips[i].text_b)
                   .set("p_a_of_a", flip.a_of_a)
                   .set("p_b_of_a", flip.a_of_b)
                   .set("p_a_of_b", flip.b_of_a)
                   .set("p_b_of_b", flip.b_of_b)
                   .set("kl", flip.kl));
  }
  json.set("texts", std::move(texts))
      .set("total", text_json(report.total))
      .set("n_flips", report.n_flips)
      .set("flips", std::move(shown));
}

}  // namespace mobilellm
