// The page of `quell report`: HTML, CSS and SVG in one file.
#include <algorithm>

#include "quell/job/html_page.h"
#include "quell/job/site_report.h"

namespace quell {
namespace {

constexpr const char* kSiteStyle = R"(
.inputs{display:flex;flex-wrap:wrap;gap:16px;margin:12px 0}figure{margin:0;width:196px;background:var(--tint);border:1px solid var(--line);border-radius:8px;padding:10px;font-size:13px;overflow-wrap:anywhere}
figure img{display:block;width:96px;height:96px;object-fit:contain;margin:0 auto 8px}.other{color:var(--bad);font-weight:600}
.bad{fill:var(--bad)}.good{fill:var(--good)}.fade{fill:var(--fade)}.span{stroke:var(--good)}.was{stroke:var(--fade)}
)";

std::string figure(const std::string& value, const std::string& what) {
  return "<div><b>" + escape_html(value) + "</b><span class=soft>" + escape_html(what) +
         "</span></div>\n";
}

/// One row a site: what it does alone, and what sparing it would gain.
std::string bars(const SiteReport& r) {
  constexpr int kRow = 20, kLeft = 280, kWidth = 340, kTop = 18;
  double most = 1e-30;
  for (const SiteMeasurement& m : r.sites) most = std::max({most, m.alone, r.all - m.spared});
  std::string svg =
      format_text("<svg viewBox=\"0 0 %d %d\" role=img aria-label=\"Divergence by site\">",
                  kLeft + 2 * kWidth + 80, kTop + 4 + kRow * static_cast<int>(r.sites.size()));
  svg += format_text(
      "<text x=%d y=11>quantized alone</text><text x=%d y=11>gained when left in float</text>",
      kLeft, kLeft + kWidth + 60);
  int y = kTop;
  for (const SiteMeasurement& m : r.sites) {
    const auto width = [&](double v) { return std::max(0.0, v / most) * (kWidth - 60); };
    const double gain = r.all - m.spared;
    svg += format_text("<text x=%d y=%d text-anchor=end>%s</text>", kLeft - 8, y + 13,
                       escape_html(m.name).substr(0, 200).c_str());
    svg += format_text(
        "<rect class=bad x=%d y=%d width=%.1f height=12 rx=2 /><text x=%.1f y=%d>%.3g</text>",
        kLeft, y + 3, width(m.alone), kLeft + width(m.alone) + 4, y + 13, m.alone);
    svg += format_text(
        "<rect class=good x=%d y=%d width=%.1f height=12 rx=2 /><text x=%.1f y=%d>%.3g</text>",
        kLeft + kWidth + 60, y + 3, width(gain), kLeft + kWidth + 60 + width(gain) + 4, y + 13,
        gain);
    y += kRow;
  }
  return svg + "</svg>\n";
}

/// Smallest and largest value by channel; neighbours share a line where there are more than fit.
std::string ranges(const std::vector<float>& low, const std::vector<float>& high, const char* style,
                   const std::string& title) {
  constexpr int kWidth = 480, kHeight = 130, kLeft = 44;
  const float bottom = std::min(0.0F, *std::min_element(low.begin(), low.end())),
              top = std::max(0.0F, *std::max_element(high.begin(), high.end()));
  const double scale = top > bottom ? kHeight / static_cast<double>(top - bottom) : 0;
  const auto y = [&](float v) { return 16 + static_cast<double>(top - v) * scale; };
  std::string svg = format_text(
      "<svg viewBox=\"0 0 %d %d\" style=\"max-width:%dpx\" role=img aria-label=\"%s\"><text x=%d "
      "y=11>%s</text>",
      kLeft + kWidth + 4, kHeight + 24, kLeft + kWidth + 4, title.c_str(), kLeft, title.c_str());
  svg += format_text(
      "<text x=%d y=24 text-anchor=end>%.3g</text><text x=%d y=%d text-anchor=end>%.3g</text>",
      kLeft - 4, static_cast<double>(top), kLeft - 4, kHeight + 16, static_cast<double>(bottom));
  svg += format_text("<line class=axis x1=%d x2=%d y1=%.1f y2=%.1f />", kLeft, kLeft + kWidth, y(0),
                     y(0));
  std::string path;
  const std::size_t bins = std::min<std::size_t>(low.size(), kWidth);
  for (std::size_t b = 0; b < bins; ++b) {
    const std::size_t begin = b * low.size() / bins, end = (b + 1) * low.size() / bins;
    float least = low[begin], most = high[begin];
    for (std::size_t j = begin; j < end; ++j)
      least = std::min(least, low[j]), most = std::max(most, high[j]);
    path += format_text("M%.1f %.1fV%.1f",
                        kLeft + (static_cast<double>(b) + 0.5) * kWidth / static_cast<double>(bins),
                        y(least), std::min(y(most), y(least) - 0.5));
  }
  return svg +
         format_text("<path class=%s fill=none stroke-width=%.2f d=\"", style,
                     std::max(0.8, 0.8 * kWidth / static_cast<double>(bins))) +
         path + "\"/></svg>\n";
}

std::string table(const SiteReport& r) {
  std::string html =
      "<p class=soft>SQNR in dB. Bits: of weights, of inputs.</p>\n"
      "<table><tr><th>site</th><th>bits</th><th>SQNR of inputs</th><th>of weights</th><th>of "
      "outputs</th><th>inputs alone</th>"
      "<th>weights alone</th><th>outside the range</th><th>divergence alone</th><th>without "
      "it</th><th "
      "class=text>kernel</th></tr>\n";
  for (const SiteMeasurement& m : r.sites)
    html += "<tr><td>" + escape_html(m.name) + "</td>" +
            format_text(
                "<td>%d, "
                "%d</td><td>%.1f</td><td>%.1f</td><td>%.1f</td><td>%.1f</td><td>%.1f</td><td>%.2f "
                "%%</td>"
                "<td>%.3g</td><td>%.3g</td>",
                m.weight_bits, m.input_bits, m.input_sqnr, m.weight_sqnr, m.output_sqnr,
                m.inputs_only_sqnr, m.weights_only_sqnr, 100 * m.clipped, m.alone, m.spared) +
            "<td class=text>" + escape_html(m.kernel) + "</td></tr>\n";
  return html + "</table>\n";
}

/// Smallest and largest input of each site, in the original model and as the quantizer reads it.
std::string layer_ranges(const SiteReport& r) {
  constexpr int kRow = 20, kLeft = 280, kWidth = 560, kTop = 4;
  struct Row {
    float low[2], high[2];
  };
  std::vector<Row> rows;
  double bottom = 0, top = 1e-30;
  for (const SiteMeasurement& m : r.sites) {
    const auto low = [](const std::vector<float>& v) {
      return *std::min_element(v.begin(), v.end());
    };
    const auto high = [](const std::vector<float>& v) {
      return *std::max_element(v.begin(), v.end());
    };
    rows.push_back(
        {{low(m.min_before), low(m.min_after)}, {high(m.max_before), high(m.max_after)}});
    for (const int i : {0, 1}) {
      bottom = std::min(bottom, static_cast<double>(rows.back().low[i]));
      top = std::max(top, static_cast<double>(rows.back().high[i]));
    }
  }

  std::string svg =
      format_text("<svg viewBox=\"0 0 %d %d\" role=img aria-label=\"Ranges by layer\">",
                  kLeft + kWidth + 160, kTop + 4 + kRow * static_cast<int>(rows.size()));
  const auto x = [&](float v) {
    return kLeft + (static_cast<double>(v) - bottom) / (top - bottom) * kWidth;
  };
  svg += format_text("<line class=axis x1=%.1f x2=%.1f y1=%d y2=%d />", x(0), x(0), kTop,
                     kTop + kRow * static_cast<int>(rows.size()));
  int y = kTop;
  for (std::size_t s = 0; s < rows.size(); ++s) {
    svg += format_text("<text x=%d y=%d text-anchor=end>%s</text>", kLeft - 8, y + 13,
                       escape_html(r.sites[s].name).substr(0, 200).c_str());
    for (const int i : {0, 1})
      svg += format_text("<rect class=%s x=%.1f y=%d width=%.1f height=6 rx=2 />",
                         i == 0 ? "fade" : "good", x(rows[s].low[i]), y + 3 + 7 * i,
                         std::max(1.0, x(rows[s].high[i]) - x(rows[s].low[i])));
    svg += format_text("<text x=%d y=%d>%.3g to %.3g</text>", kLeft + kWidth + 8, y + 13,
                       static_cast<double>(rows[s].low[1]), static_cast<double>(rows[s].high[1]));
    y += kRow;
  }
  return svg + "</svg>\n";
}

/// "207, golden retriever"
std::string class_words(std::int64_t number, const std::string& label) {
  return std::to_string(number) + (label.empty() ? "" : ", " + escape_html(label));
}

std::string classes(const DivergentInput& input) {
  if (!input.has_classes) return "";
  const bool agree = input.float_class == input.quantized_class;
  return "float: " + class_words(input.float_class, input.float_label) + "<br><span" +
         (agree ? "" : " class=other") +
         ">quantized: " + class_words(input.quantized_class, input.quantized_label) + "</span><br>";
}

/// What people can look at beside a number: pictures side by side, or texts below each other.
std::string inputs_section(const SiteReport& r) {
  std::string html = "<h2>Inputs on which float and quantized disagree most</h2>\n<p class=soft>";
  html += format_text("Of the %lld held-out samples, by the divergence of each.",
                      static_cast<long long>(r.samples));
  if (r.has_classes)
    html +=
        format_text(" The class changes on %lld of them.", static_cast<long long>(r.other_classes));
  html += "</p>\n";

  const bool pictures = !r.inputs.empty() && !r.inputs.front().thumbnail.empty();
  html += pictures ? "<div class=inputs>\n" : "<ol>\n";
  for (const DivergentInput& input : r.inputs) {
    const std::string divergence = format_text("divergence %.3g", input.divergence);
    if (pictures)
      html += "<figure><img src=\"" + input.thumbnail + "\" alt=\"\"><figcaption>" +
              escape_html(input.name) + "<br>" + classes(input) + divergence +
              "</figcaption></figure>\n";
    else
      html += "<li>" + escape_html(input.text) + "<br><span class=soft>" + escape_html(input.name) +
              ", " + divergence + "</span><br>" + classes(input) + "</li>\n";
  }
  return html + (pictures ? "</div>\n" : "</ol>\n");
}

}  // namespace

std::string SiteReport::to_html() const {
  std::string html;
  const std::string of_tokens =
      tokens > 0 ? format_text(" (%lld tokens)", static_cast<long long>(tokens)) : "";
  html += format_text(
              "<p class=soft>Calibrated on %lld samples, measured on %lld others%s, %s "
              "kernels, quell %s. Divergence: ",
              static_cast<long long>(calibration_samples), static_cast<long long>(samples),
              of_tokens.c_str(), escape_html(isa).c_str(), QUELL_VERSION) +
          escape_html(divergence) + ", against the float model.</p>\n<div class=figures>\n";
  html += figure(format_text("%.4g", all), "divergence of the quantized model") +
          figure(std::to_string(sites.size()), "quantized sites");
  if (!task.empty())
    html += figure(format_text("%.2f", metric), task + format_text(" (float %.2f)", float_metric));
  html += "</div>\n<h2>What to do</h2>\n<p><b>" + escape_html(verdict) + "</b></p>\n";
  if (!advice.empty()) {
    html += "<ul>\n";
    for (const Advice& a : advice) {
      html += "<li>" + escape_html(a.text);
      if (!a.arguments.empty()) html += ": <code>" + escape_html(a.arguments) + "</code>";
      html += "</li>\n";
    }
    html += "</ul>\n";
  }
  if (!command.empty()) html += "<pre>" + escape_html(command) + "</pre>\n";
  html += "<h2>Which site hurts</h2>\n<div class=wide>" + bars(*this) + "</div>\n" +
          inputs_section(*this) + "<h2>Numbers</h2>\n" + table(*this) +
          "<h2>Ranges by layer</h2>\n<p class=soft>Smallest and largest input of every site: "
          "above in the original model, below as the quantizer reads it, which the numbers "
          "say.</p>\n<div class=wide>" +
          layer_ranges(*this) +
          "</div>\n<h2>Ranges by channel</h2>\n<p class=soft>Smallest and largest input of every "
          "channel, "
          "in the original model and as the "
          "quantizer reads it.</p>\n";
  for (const SiteMeasurement& m : sites)
    html +=
        "<details><summary>" + escape_html(m.name) + "</summary>\n" +
        ranges(m.min_before, m.max_before, "was", "before") +
        ranges(m.min_after, m.max_after, "span",
               m.columns > m.channels ? format_text("after, %lld columns more",
                                                    static_cast<long long>(m.columns - m.channels))
                                      : "after") +
        "</details>\n";
  return html_page(model + ": " + recipe + " " + scheme, kSiteStyle, html);
}

}  // namespace quell
