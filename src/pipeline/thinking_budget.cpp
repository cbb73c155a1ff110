// The lead-in texts.
#include "pipeline/thinking_budget.h"

namespace mobilellm {

std::string lead_to_answer(ReasoningConvention convention, bool is_inside_reasoning, bool has_text) {
  if (convention == ReasoningConvention::kNone) {
    return std::string(has_text ? "\n\n" : "") + "The final answer is \\boxed{";
  }
  const ReasoningTags& tags = reasoning_tags(convention);
  std::string text;
  if (!is_inside_reasoning) text = std::string(tags.open) + "\n";
  if (has_text) text += "\n\nI have thought enough and will answer now.\n";
  return text + std::string(tags.close) + "\n\n";
}

}  // namespace mobilellm
