// Convolutions on codes: the same numbers as the simulation in f32, the same bytes on all kernels.
#include "quell/quant/integer_convolution.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "quell/base/error.h"
#include "quell/base/random.h"
#include "quell/quant/convolution_blocks.h"
#include "quell/quant/quantize.h"

namespace quell {
namespace {

struct Case {
  ImageSize image = {7, 9};
  Window window = {};
  std::int64_t channels = 8;
  std::int64_t outputs = 12;
  std::int64_t groups = 1;
  bool transposed = false;
  bool has_padding_value = false;
  int bits = 8;
  bool symmetric_input = false;
};

Window square(std::int64_t kernel, std::int64_t stride = 1, std::int64_t padding = 0,
              std::int64_t dilation = 1) {
  return {.kernel_height = kernel,
          .kernel_width = kernel,
          .stride_height = stride,
          .stride_width = stride,
          .dilation_height = dilation,
          .dilation_width = dilation,
          .padding = {padding, padding, padding, padding}};
}

Tensor random_matrix(std::int64_t rows, std::int64_t columns, double low, double high,
                     std::uint64_t seed) {
  Random random(seed);
  Tensor t = Tensor::f32({rows, columns});
  for (float& v : t.f32()) v = static_cast<float>(low + (high - low) * random.uniform());
  return t;
}

class Convolution {
 public:
  explicit Convolution(const Case& c) : case_(c) {
    auto geometry = std::make_shared<ConvGeometry>();
    geometry->window = c.window;
    geometry->groups = c.groups;
    geometry->transposed = c.transposed;
    geometry->taps = c.transposed
                         ? make_transposed_taps(c.image, c.window, image_under(c.image, c.window))
                         : make_taps(c.image, c.window, windows_over(c.image, c.window));
    if (c.has_padding_value)
      for (std::int64_t i = 0; i < c.channels; ++i)
        geometry->padding.push_back(0.1F * static_cast<float>(i) - 0.3F);
    geometry_ = geometry;

    x_ = random_matrix(2 * c.image.pixels(), c.channels, -1, 2, 1);
    const std::int64_t columns = c.window.taps() * c.channels / c.groups;
    QuantSpec weights{.num_bits = c.bits, .granularity = Granularity::kPerChannel};
    weight_ = quantize_weight(random_matrix(c.outputs, columns, -0.5, 0.5, 2), weights);
    bias_ = random_matrix(1, c.outputs, -1, 1, 3);
    bias_.reshape({c.outputs});
    input_.spec = {.num_bits = c.bits, .symmetric = c.symmetric_input};
    input_.qparams = calculate_qparams({-1, 2}, input_.spec);
  }

  Tensor out() const { return Tensor::f32({geometry_->out_rows(x_.rows()), case_.outputs}); }
  Tensor simulated(ExecContext& ctx) const {
    Tensor y = out();
    make_fake_quantized_product(weight_, bias_, input_, Rounding::kReciprocal, geometry_)
        ->forward(x_, y.span(), ctx);
    return y;
  }
  IntegerConvolution integer(Isa isa, bool exact = false) const {
    return {weight_, bias_, input_, geometry_, {.isa = isa, .exact_simulation = exact}};
  }
  Tensor integer(Isa isa, bool exact, ExecContext& ctx) const {
    Tensor y = out();
    integer(isa, exact).forward(x_, y.span(), ctx);
    return y;
  }
  QuantizedRows codes(Isa isa, const ActivationQuant& output, ExecContext& ctx) const {
    const QuantizedRows x =
        quantize_rows(x_, input_, false, ctx, kernels::round_up(case_.channels, 4));
    const IntegerConvolution convolution = integer(isa);
    QuantizedRows made = make_quantized_rows(convolution.out_rows(x.rows), case_.outputs, output,
                                             kernels::round_up(case_.outputs, 4));
    LinearOutput to;
    to.codes = &made;
    to.code_low = 3;
    convolution.forward_rows(x, to, ctx);
    return made;
  }

 private:
  Case case_;
  std::shared_ptr<const ConvGeometry> geometry_;
  Tensor x_;
  QTensor weight_;
  Tensor bias_;
  ActivationQuant input_;
};

std::vector<Case> cases() {
  return {
      {.window = square(1)},
      {.window = square(1), .channels = 3, .outputs = 5},
      {.window = square(1, 2), .channels = 6, .outputs = 40},
      {.window = square(3, 1, 1), .channels = 3, .outputs = 33},
      {.image = {8, 11}, .window = square(7, 2, 3), .channels = 3, .outputs = 20},
      {.image = {3, 2}, .window = square(5, 1, 3), .channels = 4, .outputs = 8},
      {.image = {9, 8},
       .window = {.kernel_height = 3,
                  .kernel_width = 2,
                  .stride_height = 2,
                  .stride_width = 3,
                  .dilation_height = 2,
                  .padding = {2, 0, 1, 0}},
       .channels = 2,
       .outputs = 6,
       .has_padding_value = true},
      {.image = {14, 14}, .window = square(3, 1, 1), .channels = 24, .outputs = 150},
      {.image = {14, 15},
       .window = square(3, 1, 1),
       .channels = 100,
       .outputs = 100,
       .groups = 100},
      {.image = {29, 28}, .window = square(1), .channels = 20, .outputs = 70},
      {.image = {5, 5}, .window = square(1), .channels = 40, .outputs = 330},
      {.window = square(3, 2, 1), .channels = 16, .outputs = 24, .symmetric_input = true},
      {.window = square(3, 1, 2, 2), .has_padding_value = true},
      {.window = square(5, 2, 2), .channels = 7, .outputs = 7, .groups = 7},
      {.window = square(3, 1, 1), .channels = 70, .outputs = 70, .groups = 70},
      {.window = square(3, 1, 2, 2),
       .channels = 20,
       .outputs = 20,
       .groups = 20,
       .has_padding_value = true},
      {.window = square(3, 1, 1), .channels = 12, .outputs = 10, .groups = 2},
      {.window = square(3, 1, 1), .channels = 5, .outputs = 15, .groups = 5},
      {.window = square(2, 2), .transposed = true},
      {.window = square(3, 2, 1), .channels = 9, .outputs = 4, .transposed = true},
      {.window = square(3, 1, 1), .bits = 4},
      {.image = {1, 40},
       .window = {.kernel_height = 1, .kernel_width = 5, .padding = {0, 0, 1, 3}},
       .channels = 66,
       .outputs = 66,
       .groups = 66},
  };
}

TEST(IntegerConvolution, ComputesWhatTheSimulationDoes) {
  ExecContext ctx(2);
  for (const Case& c : cases()) {
    SCOPED_TRACE(::testing::Message() << c.window.kernel_width << " wide, " << c.channels << " -> "
                                      << c.outputs << " in " << c.groups);
    const Convolution convolution(c);
    const Tensor want = convolution.simulated(ctx);
    const Tensor got = convolution.integer(ctx.isa, false, ctx);
    for (std::size_t i = 0; i < want.f32().size(); ++i)
      ASSERT_NEAR(got.f32()[i], want.f32()[i], 2e-4) << i;
  }
}

TEST(IntegerConvolution, GivesTheSameBytesOnAllKernels) {
  ExecContext ctx(3);
  for (const Case& c : cases()) {
    const Convolution convolution(c);
    const Tensor want = convolution.integer(Isa::kPortable, true, ctx);
    ActivationQuant output{{.symmetric = false}, {}};
    output.qparams = calculate_qparams({-3, 5}, output.spec);
    const QuantizedRows codes = convolution.codes(Isa::kPortable, output, ctx);
    for (int isa = 0; isa <= static_cast<int>(ctx.isa); ++isa) {
      const Tensor got = convolution.integer(static_cast<Isa>(isa), false, ctx);
      ASSERT_TRUE(std::equal(want.f32().begin(), want.f32().end(), got.f32().begin()));

      const QuantizedRows same = convolution.codes(static_cast<Isa>(isa), output, ctx);
      for (std::int64_t r = 0; r < codes.rows; ++r)
        ASSERT_TRUE(std::equal(codes.row(r), codes.row(r) + codes.columns, same.row(r))) << r;
    }
  }
}

TEST(IntegerConvolution, BlocksCoverEachRowAndPanelOnce) {
  ExecContext ctx(2);
  for (const std::int64_t rows : {1, 23, 49, 60, 196, 3136})
    for (const std::int64_t panels : {1, 2, 5, 40})
      for (const std::int64_t panel_bytes : {64, 100000})
        for (const int threads : {1, 2, 64}) {
          const ConvolutionBlocks blocks({.rows = rows,
                                          .panels = panels,
                                          .row_bytes = 512,
                                          .panel_bytes = panel_bytes,
                                          .row_unit = 24,
                                          .panel_unit = 2,
                                          .most_rows = 250},
                                         threads);
          std::vector<int> seen(static_cast<std::size_t>(rows * panels));
          blocks.for_each(
              ctx, [&](std::int64_t row, std::int64_t count, std::int64_t panel, std::int64_t end) {
                EXPECT_GT(count, 0);
                EXPECT_LE(count, 250 + 12) << "a rest of half a unit may be part of a block";
                for (std::int64_t r = row; r < row + count; ++r)
                  for (std::int64_t p = panel; p < end; ++p)
                    ++seen[static_cast<std::size_t>(r * panels + p)];
              });
          EXPECT_TRUE(std::all_of(seen.begin(), seen.end(), [](int n) { return n == 1; }));
        }
}

TEST(IntegerConvolution, SaysWhatItCannotHold) {
  const Case c{.window = square(3, 1, 1)};
  auto geometry = std::make_shared<ConvGeometry>();
  geometry->taps = make_taps(c.image, c.window, windows_over(c.image, c.window));
  const QuantSpec symmetric{.granularity = Granularity::kPerChannel};
  const QuantSpec asymmetric{.symmetric = false, .granularity = Granularity::kPerChannel};
  const Tensor w = random_matrix(4, 72, -1, 1, 1);
  const ActivationQuant fixed{{.symmetric = false}, {0.01F, 100}};
  const ActivationQuant dynamic{{.granularity = Granularity::kPerToken, .dynamic = true}, {}};

  const auto make = [&](const QuantSpec& weights, const ActivationQuant& input) {
    return IntegerConvolution(quantize_weight(w, weights), TensorView(), input, geometry, {});
  };
  EXPECT_NO_THROW(make(symmetric, fixed));
  EXPECT_THROW(make(asymmetric, fixed), Error);
  EXPECT_THROW(make(symmetric, dynamic), Error);
}

}  // namespace
}  // namespace quell
