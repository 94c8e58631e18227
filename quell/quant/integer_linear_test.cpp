// Weights of few bits give the bytes of the same weights as whole codes, however they are packed.
#include <gtest/gtest.h>

#include "quell/base/random.h"
#include "quell/quant/quantize.h"
#include "quell/quant/quantized_linear.h"

namespace quell {
namespace {

constexpr std::int64_t kDepth = 192;

Tensor uniform_matrix(std::int64_t rows, std::int64_t columns, Random& random) {
  Tensor t = Tensor::f32({rows, columns});
  for (float& v : t.f32()) v = static_cast<float>(2 * random.uniform() - 1);
  return t;
}

ActivationQuant eight_bits(bool dynamic) {
  if (dynamic) return {{8, false, Granularity::kPerToken, 0, true}, {}};
  ActivationQuant quant{{8, false, Granularity::kPerTensor}, {}};
  quant.qparams = calculate_qparams({-1, 1}, quant.spec);
  return quant;
}

std::vector<float> outputs_of(const IntegerProduct& linear, const Tensor& x, ExecContext& ctx) {
  Tensor y = Tensor::f32({x.rows(), linear.columns()});
  linear.forward(x, y.span(), ctx);
  return {y.f32().begin(), y.f32().end()};
}

std::vector<Isa> supported_isas() {
  std::vector<Isa> isas;
  for (const Isa isa : {Isa::kPortable, Isa::kAvx2, Isa::kAvxVnni, Isa::kAvx512Vnni, Isa::kAmx})
    if (cpu_supports(isa)) isas.push_back(isa);
  return isas;
}

/// [37, 192] with codes of so many bits; group_size 0: a step a row.
QTensor random_weight(int bits, bool symmetric, std::int64_t group_size, Random& random) {
  const Granularity granularity =
      group_size > 0 ? Granularity::kPerGroup : Granularity::kPerChannel;
  return quantize_weight(uniform_matrix(37, kDepth, random),
                         {bits, symmetric, granularity, group_size});
}

TEST(IntegerLinear, PackedWeightsGiveTheBytesOfWholeCodes) {
  ExecContext ctx(2);
  Random random(3);
  for (const int bits : {2, 4})
    for (const bool symmetric : {true, false})
      for (const std::int64_t group_size : {0, 8, 16, 32, 64, 96})
        for (const bool dynamic : {true, false}) {
          SCOPED_TRACE(::testing::Message() << bits << " bits, groups of " << group_size);
          const QTensor w = random_weight(bits, symmetric, group_size, random);
          const Tensor bias = uniform_matrix(1, 37, random);
          const ActivationQuant input = eight_bits(dynamic);
          for (const std::int64_t rows : {1, 5, 40}) {
            const Tensor x = uniform_matrix(rows, kDepth, random);
            const IntegerLinear exact(w, bias, input, {.exact_simulation = true});
            const std::vector<float> want = outputs_of(exact, x, ctx);
            for (const Isa isa : supported_isas())
              for (const bool pack : {true, false}) {
                const IntegerLinear linear(w, bias, input, {.isa = isa, .pack_weights = pack});
                EXPECT_EQ(outputs_of(linear, x, ctx), want) << linear.describe();
              }
          }
        }
}

TEST(IntegerLinear, PackedGateAndUpGiveTheBytesOfWholeCodes) {
  ExecContext ctx(2);
  Random random(4);
  const QTensor gate = random_weight(2, true, 0, random), up = random_weight(2, true, 0, random);
  const Tensor bias = uniform_matrix(1, 37, random), x = uniform_matrix(7, kDepth, random);
  const ActivationQuant input = eight_bits(true);
  const auto gated = [&](const IntegerLinearOptions& options) {
    return outputs_of(*IntegerLinear::gated(gate, bias, up, bias, input, options), x, ctx);
  };
  const std::vector<float> want = gated({.exact_simulation = true});
  for (const Isa isa : supported_isas()) EXPECT_EQ(gated({.isa = isa}), want) << isa_name(isa);
}

TEST(IntegerLinear, TwoBitsTakeAQuarterOfTheBytes) {
  Random random(5);
  const Tensor bias = uniform_matrix(1, 37, random);
  const ActivationQuant input = eight_bits(false);
  const QTensor w = random_weight(2, true, 0, random);
  for (const Isa isa : supported_isas()) {
    const IntegerLinear packed(w, bias, input, {.isa = isa}),
        whole(w, bias, input, {.isa = isa, .pack_weights = false});
    EXPECT_EQ(4 * packed.packed_bytes(), whole.packed_bytes()) << packed.describe();
    EXPECT_NE(packed.describe().find("crumbs"), std::string::npos) << packed.describe();
  }
}

}  // namespace
}  // namespace quell
