// Axes, roofs, points, and labels that keep out of each other's way.
#include "measure/roofline_svg.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace mobilellm {
namespace {

constexpr double kWidth = 960, kHeight = 640;
constexpr double kLeft = 84, kRight = 36, kTop = 84, kBottom = 64;
constexpr double kLabelHeight = 17;
constexpr double kLetterWidth = 7.6;  // At 13 pixels, of a wide font.

constexpr const char* kInk = "#1b1f24";
constexpr const char* kGrey = "#6b7280";
constexpr const char* kBandwidthColor = "#0f766e";
constexpr const char* kPeakColor = "#b45309";
constexpr const char* kPrefillColor = "#2563eb";
constexpr const char* kDecodeColor = "#be123c";
constexpr const char* kBatchColor = "#7c3aed";

std::string escape(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '<') {
      out += "&lt;";
    } else if (c == '&') {
      out += "&amp;";
    } else if (c == '"') {
      out += "&quot;";
    } else {
      out += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
    }
  }
  return out;
}

// 0.5 or 1 or 20 or 3000 in powers of ten, as people write them.
std::string tick_text(double value) {
  if (value >= 1e6) return fmt::format("{:g}M", value / 1e6);
  if (value >= 1e4) return fmt::format("{:g}k", value / 1e3);
  return fmt::format("{:g}", value);
}

std::string rate_text(double operations) {
  return operations >= 1e12 ? fmt::format("{:.2f} Top/s", operations * 1e-12)
                            : fmt::format("{:.0f} Gop/s", operations * 1e-9);
}

std::string speed_text(double tokens_per_second) {
  return fmt::format("{:.{}f} tok/s", tokens_per_second, tokens_per_second < 100 ? 1 : 0);
}

// One logarithmic axis: whole decades that hold [least, most].
struct Axis {
  Axis(double least, double most, double begin_pixel, double end_pixel)
      : low(std::floor(std::log10(least))),
        high(std::max(low + 1, std::ceil(std::log10(most)))),
        begin(begin_pixel),
        end(end_pixel) {}
  double at(double value) const { return begin + (std::log10(value) - low) / (high - low) * (end - begin); }

  double low, high;  // Exponents of ten.
  double begin, end;
};

struct Label {
  double x, y;    // Of the point.
  double text_y;  // Middle of the text.
  double width;
  std::string text;
  const char* color;
  bool is_left = false;  // Text stands left of the point.

  double text_left() const { return is_left ? x - 10 - width : x + 10; }
  double anchor() const { return is_left ? x - 10 : x + 10; }
};

class Picture {
 public:
  Picture(const BenchSubject& subject, const std::vector<BenchRow>& rows)
      : subject_(subject),
        rows_(rows),
        limits_(*subject.limits),
        x_(least_intensity() / 1.5, most_intensity() * 1.5, kLeft, kWidth - kRight),
        y_(least_rate() / 1.5, limits_.peak.operations * 1.5, kHeight - kBottom, kTop) {}

  std::string draw() {
    out_ = fmt::format(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0:g} {1:g}\" width=\"{0:g}\" height=\"{1:g}\" "
        "font-family=\"Helvetica, Arial, sans-serif\" font-size=\"13\">\n"
        "<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n",
        kWidth, kHeight);
    draw_titles();
    draw_grid();
    draw_roofs();
    draw_points();
    return out_ + "</svg>\n";
  }

 private:
  static double intensity(const BenchRow& row) { return row.cost.operations / row.cost.bytes(); }
  double least_intensity() const {
    double least = 1;
    for (const BenchRow& row : rows_) least = std::min(least, intensity(row));
    return least;
  }
  // Far enough right to show where the bandwidth stops to matter.
  double most_intensity() const {
    double most = 4 * limits_.peak.operations / limits_.bandwidth;
    for (const BenchRow& row : rows_) most = std::max(most, intensity(row));
    return most;
  }
  double least_rate() const {
    double least = limits_.peak.operations;
    for (const BenchRow& row : rows_) least = std::min(least, row.operations_per_second());
    return least;
  }

  void text(double x, double y, const std::string& content, const char* color, const char* attributes = "") {
    out_ += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" fill=\"{}\" {}>{}</text>\n", x, y, color, attributes,
                        escape(content));
  }
  void line(double x1, double y1, double x2, double y2, const char* color, double width, const char* attributes = "") {
    out_ += fmt::format(
        "<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" stroke=\"{}\" stroke-width=\"{:g}\" {}/>\n", x1,
        y1, x2, y2, color, width, attributes);
  }

  void draw_titles() {
    const std::string name = subject_.shape.empty() ? subject_.model : subject_.shape + ", random weights";
    const std::string head = subject_.head_format == subject_.format ? "" : ", head " + subject_.head_format;
    text(kLeft, 34, fmt::format("{}: {}{}", name, subject_.format, head), kInk,
         "font-size=\"20\" font-weight=\"bold\"");
    text(kLeft, 56,
         fmt::format("{}, {} thread{}, {}; {:.1f} MB of weights, keys and values in {}",
                     subject_.cpu.empty() ? "unknown processor" : subject_.cpu, subject_.n_threads,
                     subject_.n_threads == 1 ? "" : "s", subject_.isa,
                     static_cast<double>(subject_.cost.weight_bytes) * 1e-6, subject_.kv),
         kGrey);
  }

  void draw_grid() {
    for (auto decade = static_cast<int>(x_.low); decade <= static_cast<int>(x_.high); ++decade) {
      for (int digit = 1; digit <= 9; ++digit) {
        const double value = digit * std::pow(10, decade);
        if (digit > 1 && decade == static_cast<int>(x_.high)) break;
        line(x_.at(value), kTop, x_.at(value), kHeight - kBottom, digit == 1 ? "#d1d5db" : "#eef0f3", 1);
        if (digit == 1) text(x_.at(value), kHeight - kBottom + 20, tick_text(value), kInk, "text-anchor=\"middle\"");
      }
    }
    for (auto decade = static_cast<int>(y_.low); decade <= static_cast<int>(y_.high); ++decade) {
      for (int digit = 1; digit <= 9; ++digit) {
        const double value = digit * std::pow(10, decade);
        if (digit > 1 && decade == static_cast<int>(y_.high)) break;
        line(kLeft, y_.at(value), kWidth - kRight, y_.at(value), digit == 1 ? "#d1d5db" : "#eef0f3", 1);
        if (digit == 1) text(kLeft - 8, y_.at(value) + 4, tick_text(value * 1e-9), kInk, "text-anchor=\"end\"");
      }
    }
    text((kLeft + kWidth - kRight) / 2, kHeight - 18, "operations per byte", kInk, "text-anchor=\"middle\"");
    const double middle = (kTop + kHeight - kBottom) / 2;
    text(24, middle, "Gop/s", kInk,
         fmt::format("text-anchor=\"middle\" transform=\"rotate(-90 24 {:g})\"", middle).c_str());
  }

  void draw_roofs() {
    const double ridge = limits_.peak.operations / limits_.bandwidth;
    const double y_begin = std::pow(10, y_.low);
    // Where the bandwidth's line enters the picture: at the left or at the bottom.
    const double x_begin = std::max(std::pow(10, x_.low), y_begin / limits_.bandwidth);
    const double right = kWidth - kRight;
    out_ += fmt::format(
        "<polygon points=\"{:.1f},{:.1f} {:.1f},{:.1f} {:.1f},{:.1f} {:.1f},{:.1f} {:.1f},{:.1f}\" fill=\"#0f766e\" "
        "fill-opacity=\"0.05\"/>\n",
        x_.at(x_begin), y_.at(x_begin * limits_.bandwidth), x_.at(ridge), y_.at(limits_.peak.operations), right,
        y_.at(limits_.peak.operations), right, y_.begin, x_.at(x_begin), y_.begin);
    for (const ComputePeak& peak : limits_.peaks) {
      const bool is_best_of_kind = std::none_of(limits_.peaks.begin(), limits_.peaks.end(), [&](const ComputePeak& p) {
        return p.kind == peak.kind && p.operations > peak.operations;
      });
      if (!is_best_of_kind || peak.operations <= y_begin * 2) continue;
      const bool is_top = peak.instruction == limits_.peak.instruction;
      line(x_.at(std::max(x_begin, peak.operations / limits_.bandwidth)), y_.at(peak.operations), right,
           y_.at(peak.operations), kPeakColor, is_top ? 2.5 : 1, is_top ? "" : "stroke-dasharray=\"5 4\"");
      text(right - 4, y_.at(peak.operations) - 6, fmt::format("{} {}", peak.kind, rate_text(peak.operations)),
           kPeakColor, "text-anchor=\"end\"");
    }
    line(x_.at(x_begin), y_.at(x_begin * limits_.bandwidth), x_.at(ridge), y_.at(limits_.peak.operations),
         kBandwidthColor, 2.5);
    const double slope =
        (y_.at(limits_.peak.operations) - y_.at(x_begin * limits_.bandwidth)) / (x_.at(ridge) - x_.at(x_begin));
    const double at = x_begin * std::pow(ridge / x_begin, 0.72);
    text(x_.at(at), y_.at(at * limits_.bandwidth) - 8, fmt::format("{:.1f} GB/s", limits_.bandwidth * 1e-9),
         kBandwidthColor,
         fmt::format("text-anchor=\"middle\" transform=\"rotate({:.2f} {:.1f} {:.1f})\"",
                     std::atan(slope) * 180 / std::acos(-1.0), x_.at(at), y_.at(at * limits_.bandwidth))
             .c_str());
  }

  std::vector<Label> place_labels() const {
    std::vector<Label> labels;
    for (const BenchRow& row : rows_) {
      Label label;
      label.x = x_.at(intensity(row));
      label.y = y_.at(row.operations_per_second());
      label.text_y = label.y;
      label.text = fmt::format("{}  {}", row.test.name(), speed_text(row.tokens_per_second(row.median_seconds())));
      label.width = static_cast<double>(label.text.size()) * kLetterWidth;
      label.is_left = label.x + 10 + label.width > kWidth - kRight;
      label.color = row.test.is_prefill ? kPrefillColor : row.test.n_sequences > 1 ? kBatchColor : kDecodeColor;
      labels.push_back(std::move(label));
    }
    // From the top down, each text moves below those it would cover.
    std::sort(labels.begin(), labels.end(), [](const Label& a, const Label& b) { return a.y < b.y; });
    for (size_t i = 1; i < labels.size(); ++i) {
      for (size_t round = 0; round < i; ++round) {
        for (size_t k = 0; k < i; ++k) {
          Label& a = labels[i];
          const Label& b = labels[k];
          const bool is_beside = a.text_left() > b.text_left() + b.width || b.text_left() > a.text_left() + a.width;
          if (!is_beside && std::abs(a.text_y - b.text_y) < kLabelHeight) a.text_y = b.text_y + kLabelHeight;
        }
      }
    }
    return labels;
  }

  void draw_points() {
    for (const Label& label : place_labels()) {
      if (label.text_y != label.y) {
        line(label.x, label.y, label.is_left ? label.x - 9 : label.x + 9, label.text_y, label.color, 1);
      }
      out_ += fmt::format(
          "<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"5\" fill=\"{}\" stroke=\"#ffffff\" stroke-width=\"1.5\"/>\n",
          label.x, label.y, label.color);
      // A white rim keeps the text readable on lines.
      text(label.anchor(), label.text_y + 4.5, label.text, label.color,
           fmt::format("text-anchor=\"{}\" stroke=\"#ffffff\" stroke-width=\"3\" paint-order=\"stroke\" "
                       "xml:space=\"preserve\"",
                       label.is_left ? "end" : "start")
               .c_str());
    }
  }

  const BenchSubject& subject_;
  const std::vector<BenchRow>& rows_;
  const MachineLimits& limits_;
  Axis x_, y_;
  std::string out_;
};

}  // namespace

std::string roofline_svg(const BenchSubject& subject, const std::vector<BenchRow>& rows) {
  return Picture(subject, rows).draw();
}

}  // namespace mobilellm
