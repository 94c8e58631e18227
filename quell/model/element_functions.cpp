// Activations of torch by name, as Dense modules of sentence-transformers use them: with their
// default settings. Through double, so that the result is the rounded exact one nearly everywhere.
#include <cmath>

#include "quell/model/sentence_pipeline.h"

namespace quell {
namespace {

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }
double softplus(double x) { return x > 20 ? x : std::log1p(std::exp(x)); }
double clamp(double x, double low, double high) { return std::fmin(std::fmax(x, low), high); }

constexpr double kSeluScale = 1.0507009873554805, kSeluAlpha = 1.6732632423543772;

struct Named {
  std::string_view name;
  double (*function)(double);
};

constexpr Named kFunctions[] = {
    {"Identity", [](double x) { return x; }},
    {"Tanh", [](double x) { return std::tanh(x); }},
    {"ReLU", [](double x) { return std::fmax(x, 0); }},
    {"ReLU6", [](double x) { return clamp(x, 0, 6); }},
    {"GELU", [](double x) { return 0.5 * x * (1 + std::erf(x / std::sqrt(2.0))); }},
    {"Sigmoid", sigmoid},
    {"SiLU", [](double x) { return x * sigmoid(x); }},
    {"Mish", [](double x) { return x * std::tanh(softplus(x)); }},
    {"ELU", [](double x) { return x > 0 ? x : std::expm1(x); }},
    {"CELU", [](double x) { return x > 0 ? x : std::expm1(x); }},
    {"SELU", [](double x) { return kSeluScale * (x > 0 ? x : kSeluAlpha * std::expm1(x)); }},
    {"LeakyReLU", [](double x) { return x > 0 ? x : 0.01 * x; }},
    {"Softplus", softplus},
    {"Softsign", [](double x) { return x / (1 + std::fabs(x)); }},
    {"LogSigmoid", [](double x) { return -softplus(-x); }},
    {"Tanhshrink", [](double x) { return x - std::tanh(x); }},
    {"Hardtanh", [](double x) { return clamp(x, -1, 1); }},
    {"Hardsigmoid", [](double x) { return clamp(x / 6 + 0.5, 0, 1); }},
    {"Hardswish", [](double x) { return x * clamp(x / 6 + 0.5, 0, 1); }},
};

}  // namespace

ElementFunction element_function(std::string_view name) {
  for (const Named& f : kFunctions)
    if (f.name == name) return f.function;
  return nullptr;
}

}  // namespace quell
