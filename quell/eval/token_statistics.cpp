#include "quell/eval/token_statistics.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "quell/eval/metrics.h"
#include "quell/io/json.h"
#include "quell/ops/likelihood.h"

namespace quell {
namespace {

struct Estimate {
  double mean = 0, error = 0;
};

double mean_product(const std::vector<double>& a, const std::vector<double>& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum / static_cast<double>(a.size());
}

double mean_of(const std::vector<double>& v) {
  double sum = 0;
  for (const double x : v) sum += x;
  return sum / static_cast<double>(v.size());
}

/// Covariance of the two means.
double covariance(const std::vector<double>& a, const std::vector<double>& b) {
  if (a.size() < 2) return 0;
  return (mean_product(a, b) - mean_of(a) * mean_of(b)) / static_cast<double>(a.size() - 1);
}

Estimate estimate(const std::vector<double>& v) {
  return {mean_of(v), std::sqrt(std::max(0.0, covariance(v, v)))};
}

/// Linear interpolation between the order statistics.
double percentile(const std::vector<double>& sorted, double fraction) {
  const double at = fraction * static_cast<double>(sorted.size() - 1);
  const auto low = static_cast<std::size_t>(at), high = std::min(low + 1, sorted.size() - 1);
  return sorted[low] + (at - static_cast<double>(low)) * (sorted[high] - sorted[low]);
}

struct Summary {
  Estimate ppl, base, log_ratio, ratio, difference, kld, p_diff, rms, same;
  double correlation = 0;
  std::vector<double> kld_sorted, p_sorted;
};

std::vector<double> sorted(std::vector<double> v) {
  std::sort(v.begin(), v.end());
  return v;
}

Summary summarize(const std::vector<double>& nll, const std::vector<double>& nll_base,
                  const std::vector<double>& kld, const std::vector<double>& p_diff,
                  std::int64_t same_top) {
  Summary s;
  const Estimate log_ppl = estimate(nll), log_base = estimate(nll_base);
  const double cov = covariance(nll, nll_base);
  s.ppl = {std::exp(log_ppl.mean), std::exp(log_ppl.mean) * log_ppl.error};
  s.base = {std::exp(log_base.mean), std::exp(log_base.mean) * log_base.error};
  s.correlation = log_ppl.error * log_base.error > 0 ? cov / (log_ppl.error * log_base.error) : 1;
  s.log_ratio = {log_ppl.mean - log_base.mean,
                 std::sqrt(std::max(0.0, log_ppl.error * log_ppl.error +
                                             log_base.error * log_base.error - 2 * cov))};
  s.ratio = {std::exp(s.log_ratio.mean), std::exp(s.log_ratio.mean) * s.log_ratio.error};
  s.difference = {s.ppl.mean - s.base.mean,
                  std::sqrt(std::max(0.0, s.ppl.error * s.ppl.error + s.base.error * s.base.error -
                                              2 * s.ppl.mean * s.base.mean * cov))};
  s.kld = estimate(kld);
  s.p_diff = estimate(p_diff);
  std::vector<double> squares;
  for (const double p : p_diff) squares.push_back(p * p);
  const Estimate mse = estimate(squares);
  s.rms = {std::sqrt(mse.mean), mse.mean > 0 ? 0.5 / std::sqrt(mse.mean) * mse.error : 0};
  const double n = static_cast<double>(kld.size()), p = static_cast<double>(same_top) / n;
  s.same = {p, n > 1 ? std::sqrt(p * (1 - p) / (n - 1)) : 0};
  s.kld_sorted = sorted(kld);
  s.p_sorted = sorted(p_diff);
  return s;
}

}  // namespace

void TokenStatistics::add(std::span<const float> base, std::span<const float> logits,
                          std::int32_t target) {
  nll_.push_back(negative_log_likelihood(logits, target));
  nll_base_.push_back(negative_log_likelihood(base, target));
  kld_.push_back(kl_divergence(base, logits));
  p_diff_.push_back(std::exp(-nll_.back()) - std::exp(-nll_base_.back()));
  same_top_ += argmax(base) == argmax(logits) ? 1 : 0;
}

double TokenStatistics::mean_kl() const { return mean_of(kld_); }
double TokenStatistics::same_top() const {
  return 100.0 * static_cast<double>(same_top_) / static_cast<double>(kld_.size());
}

Json TokenStatistics::to_json() const {
  const Summary s = summarize(nll_, nll_base_, kld_, p_diff_, same_top_);
  const auto pair = [](const Estimate& e, double factor = 1) {
    return Json{{"value", factor * e.mean}, {"error", factor * e.error}};
  };
  return {{"ppl_q", pair(s.ppl)},
          {"ppl_base", pair(s.base)},
          {"correlation_log_ppl", 100 * s.correlation},
          {"log_ppl_ratio", pair(s.log_ratio)},
          {"ppl_ratio", pair(s.ratio)},
          {"ppl_difference", pair(s.difference)},
          {"kld_mean", pair(s.kld)},
          {"kld_max", s.kld_sorted.back()},
          {"kld_99.9", percentile(s.kld_sorted, 0.999)},
          {"kld_median", percentile(s.kld_sorted, 0.5)},
          {"delta_p_mean", pair(s.p_diff, 100)},
          {"delta_p_rms", pair(s.rms, 100)},
          {"same_top_p", pair(s.same, 100)},
          {"tokens", count()}};
}

std::string TokenStatistics::to_text() const {
  const Summary s = summarize(nll_, nll_base_, kld_, p_diff_, same_top_);
  std::string out;
  char line[160];
  const auto print = [&](const char* format, auto... values) {
    std::snprintf(line, sizeof line, format, values...);
    out += line;
    out += '\n';
  };
  const auto estimate_line = [&](const char* name, const Estimate& e) {
    print("%s: %10.6lf ± %10.6lf", name, e.mean, e.error);
  };
  out += "====== Perplexity statistics ======\n";
  estimate_line("Mean PPL(Q)                   ", s.ppl);
  estimate_line("Mean PPL(base)                ", s.base);
  print("Cor(ln(PPL(Q)), ln(PPL(base))): %6.2lf%%", 100 * s.correlation);
  estimate_line("Mean ln(PPL(Q)/PPL(base))     ", s.log_ratio);
  estimate_line("Mean PPL(Q)/PPL(base)         ", s.ratio);
  estimate_line("Mean PPL(Q)-PPL(base)         ", s.difference);
  out += "\n====== KL divergence statistics ======\n";
  estimate_line("Mean    KLD", s.kld);
  print("Maximum KLD: %10.6lf", s.kld_sorted.back());
  for (const auto& [name, fraction] : {std::pair("99.9%  ", 0.999),
                                       {"99.0%  ", 0.99},
                                       {"95.0%  ", 0.95},
                                       {"90.0%  ", 0.9},
                                       {"Median ", 0.5},
                                       {"10.0%  ", 0.1},
                                       {" 5.0%  ", 0.05},
                                       {" 1.0%  ", 0.01},
                                       {" 0.1%  ", 0.001}})
    print("%s KLD: %10.6lf", name, percentile(s.kld_sorted, fraction));
  print("Minimum KLD: %10.6lf", s.kld_sorted.front());
  out += "\n====== Token probability statistics ======\n";
  print("Mean    Δp: %6.3lf ± %5.3lf %%", 100 * s.p_diff.mean, 100 * s.p_diff.error);
  print("Maximum Δp: %6.3lf%%", 100 * s.p_sorted.back());
  for (const auto& [name, fraction] : {std::pair("99.9%  ", 0.999),
                                       {"99.0%  ", 0.99},
                                       {"95.0%  ", 0.95},
                                       {"90.0%  ", 0.9},
                                       {"75.0%  ", 0.75},
                                       {"Median ", 0.5},
                                       {"25.0%  ", 0.25},
                                       {"10.0%  ", 0.1},
                                       {" 5.0%  ", 0.05},
                                       {" 1.0%  ", 0.01},
                                       {" 0.1%  ", 0.001}})
    print("%s Δp: %6.3lf%%", name, 100 * percentile(s.p_sorted, fraction));
  print("Minimum Δp: %6.3lf%%", 100 * s.p_sorted.front());
  print("RMS Δp    : %6.3lf ± %5.3lf %%", 100 * s.rms.mean, 100 * s.rms.error);
  print("Same top p: %6.3lf ± %5.3lf %%", 100 * s.same.mean, 100 * s.same.error);
  return out;
}

}  // namespace quell
