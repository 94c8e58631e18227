// Every kernel text equals plain sums, natively where the processor has the instructions and
// emulated everywhere, on odd shapes and with every epilogue.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "quell/base/random.h"
#include "quell/kernels/gemm_s8/body_avx2.h"
#include "quell/kernels/gemm_s8/body_vnni.h"
#include "quell/kernels/gemm_s8/emulated.h"
#include "quell/kernels/gemm_s8/kernels.h"
#include "quell/kernels/simd/emulated_tiles.h"

#define QUELL_TILE_DP(c, a, b) quell::kernels::emulated_tiles.dpbusd(c, a, b)
#include "quell/kernels/gemm_s8/body_amx.h"

namespace quell::kernels {
namespace {

struct Problem {
  std::int64_t m, n, k, ldx;
  std::vector<std::uint8_t> x;
  std::vector<std::int8_t> w;
  int max_w;
};

/// The largest magnitude of codes that a layout holds, at most `max_w`.
int bound_of(WeightLayout layout, int max_w = 128) {
  return std::min(max_w, 1 << (bits_of(layout) - 1));
}

/// Codes reach their bounds often, so that a sum that could saturate does. Bytes of x past K are
/// not zero: kernels must not read meaning into them.
Problem make_problem(std::int64_t m, std::int64_t n, std::int64_t k, int max_x, int max_w,
                     std::uint64_t seed) {
  Random rng(seed);
  Problem p{m, n, k, code_stride(k), {}, {}, max_w};
  p.x.assign(static_cast<std::size_t>(m * p.ldx), 0);
  p.w.resize(static_cast<std::size_t>(n * k));
  for (std::size_t i = 0; i < p.x.size(); ++i)
    p.x[i] =
        static_cast<std::uint8_t>(rng.below(3) ? rng.below(static_cast<std::uint64_t>(max_x) + 1)
                                               : static_cast<unsigned>(max_x));
  for (auto& v : p.w) {
    const int code =
        rng.below(3)
            ? static_cast<int>(rng.below(2 * static_cast<std::uint64_t>(max_w) + 1)) - max_w
            : (rng.below(2) ? max_w : -max_w);
    const bool is_whole_range = max_w == 2 || max_w == 8 || max_w == 128;
    v = static_cast<std::int8_t>(is_whole_range ? std::min(code, max_w - 1) : code);
  }
  return p;
}

std::vector<std::int32_t> naive(const Problem& p) {
  std::vector<std::int32_t> acc(static_cast<std::size_t>(p.m * p.n));
  for (std::int64_t i = 0; i < p.m; ++i)
    for (std::int64_t j = 0; j < p.n; ++j) {
      std::int32_t sum = 0;
      for (std::int64_t k = 0; k < p.k; ++k)
        sum += p.x[static_cast<std::size_t>(i * p.ldx + k)] *
               p.w[static_cast<std::size_t>(j * p.k + k)];
      acc[static_cast<std::size_t>(i * p.n + j)] = sum;
    }
  return acc;
}

/// Sums as f32: exact below 2^24, which the shapes here keep.
void check_sums(GemmS8 run, WeightLayout layout, int max_product) {
  for (const auto [m, n, k] : std::vector<std::array<std::int64_t, 3>>{{1, 1, 1},
                                                                       {2, 3, 5},
                                                                       {3, 17, 4},
                                                                       {5, 31, 63},
                                                                       {6, 33, 65},
                                                                       {7, 32, 64},
                                                                       {11, 40, 3},
                                                                       {12, 16, 130},
                                                                       {13, 65, 127},
                                                                       {15, 2, 66},
                                                                       {16, 47, 128},
                                                                       {17, 64, 1},
                                                                       {25, 34, 200},
                                                                       {31, 96, 70},
                                                                       {32, 8, 257},
                                                                       {33, 33, 33},
                                                                       {1, 100, 512}})
    for (const auto [max_x, max_w] : {std::array<int, 2>{255, 128},
                                      {255, 64},
                                      {255, 8},
                                      {255, 2},
                                      {255, 1},
                                      {127, 127},
                                      {127, 63},
                                      {63, 31},
                                      {31, 15},
                                      {15, 8},
                                      {15, 7}}) {
      if (max_x * max_w > max_product || max_w > bound_of(layout)) continue;
      const Problem p =
          make_problem(m, n, k, max_x, max_w, static_cast<std::uint64_t>(m * 1000 + n + max_x));
      const PackedWeights packed = pack_weights(p.w.data(), n, k, layout);
      const std::vector<float> ones(static_cast<std::size_t>(packed.padded_n()), 1.0F),
          zeros(ones.size(), 0.0F);
      std::vector<float> out(static_cast<std::size_t>(m * n), -7.0F);
      Epilogue e;
      e.scale = ones.data();
      e.bias = zeros.data();
      e.f32 = out.data();
      e.ld_out = n;
      run(p.x.data(), p.ldx, packed, e, 0, m, 0, packed.padded_n() / kPanel);
      const std::vector<std::int32_t> want = naive(p);
      for (std::size_t i = 0; i < want.size(); ++i)
        ASSERT_EQ(out[i], static_cast<float>(want[i]))
            << m << "x" << n << "x" << k << " codes up to " << max_x << ", " << max_w;
      for (std::int64_t j = 0; j < n; ++j) {
        std::int32_t sum = 0;
        for (std::int64_t i = 0; i < k; ++i) sum += p.w[static_cast<std::size_t>(j * k + i)];
        ASSERT_EQ(packed.row_sum[static_cast<std::size_t>(j)], sum);
      }
    }
}

/// Weights in groups, and with `rows_too` activations: near doubles, and the bytes of the
/// reference.
void check_groups(GemmS8 run, WeightLayout layout, int max_product, std::int64_t unit,
                  bool rows_too) {
  const int max_w = bound_of(layout, 7), max_x = std::min(255, max_product / max_w);
  for (const std::int64_t size : {unit, 2 * unit, std::int64_t{128}})
    for (const std::int64_t m : {1, 5, 33}) {
      const std::int64_t groups = 3, n = 45, k = groups * size;
      const Problem p = make_problem(m, n, k, max_x, max_w, static_cast<std::uint64_t>(size + m));
      Random rng(3);
      const auto outputs = [&](GemmS8 kernel, WeightLayout packing) {
        PackedWeights packed = pack_weights(p.w.data(), n, k, packing);
        packed.group_size = size;
        rng = Random(3);
        for (std::int64_t i = 0; i < packed.padded_n() * groups; ++i) {
          packed.group_scale.push_back(static_cast<float>(0.01 + rng.uniform()));
          packed.group_zero.push_back(static_cast<std::int32_t>(rng.below(9)) - 4);
          packed.group_sum.push_back(static_cast<std::int32_t>(rng.below(1000)) - 500);
        }
        std::vector<float> scale(static_cast<std::size_t>(packed.padded_n()), 0.5F),
            bias(scale.size(), 3.0F), offset(scale.size(), -40.0F),
            row_scale(static_cast<std::size_t>(m), 0.25F), out(static_cast<std::size_t>(m * n));
        std::vector<std::int32_t> sums, group_zero, row_zero(static_cast<std::size_t>(m), 7);
        std::vector<float> group_scale;
        for (std::int64_t i = 0; i < m * groups; ++i) {
          group_scale.push_back(static_cast<float>(0.1 + rng.uniform()));
          group_zero.push_back(static_cast<std::int32_t>(rng.below(32)));
          sums.push_back(0);
          for (std::int64_t c = 0; c < size; ++c)
            sums.back() +=
                p.x[static_cast<std::size_t>(i / groups * p.ldx + i % groups * size + c)];
        }
        Epilogue e;
        e.scale = scale.data();
        e.bias = bias.data();
        if (rows_too) {
          e.row_group_scale = group_scale.data();
          e.row_group_zero = group_zero.data();
        } else {
          e.row_scale = row_scale.data();
          e.row_zero = row_zero.data();
          e.group_offset = offset.data();
        }
        e.row_group_sum = sums.data();
        e.f32 = out.data();
        e.ld_out = n;
        kernel(p.x.data(), p.ldx, packed, e, 0, m, 0, packed.padded_n() / kPanel);
        for (std::int64_t i = 0; i < m; ++i)
          for (std::int64_t j = 0; j < n; ++j) {
            double want = 0, size_of = 0;
            for (std::int64_t g = 0; g < groups; ++g) {
              const auto at = static_cast<std::size_t>(packed.group_at(j / kPanel, g) + j % kPanel);
              const auto row = static_cast<std::size_t>(i * groups + g);
              std::int64_t acc = -std::int64_t{packed.group_zero[at]} * sums[row];
              if (rows_too) acc -= std::int64_t{group_zero[row]} * packed.group_sum[at];
              for (std::int64_t c = g * size; c < (g + 1) * size; ++c)
                acc += p.x[static_cast<std::size_t>(i * p.ldx + c)] *
                       p.w[static_cast<std::size_t>(j * k + c)];
              const double part = static_cast<double>(packed.group_scale[at]) *
                                  static_cast<double>(acc) *
                                  (rows_too ? static_cast<double>(group_scale[row]) : 1.0);
              want += part;
              size_of += std::fabs(part);
            }
            want = rows_too ? 0.5 * want + 3 : 0.125 * (want - 280) + 3;
            EXPECT_NEAR(static_cast<double>(out[static_cast<std::size_t>(i * n + j)]), want,
                        1e-6 * (size_of + 300))
                << "groups of " << size << " at " << i << "," << j;
          }
        return out;
      };
      EXPECT_EQ(outputs(run, layout), outputs(gemm_s8_reference, WeightLayout::kQuads))
          << "groups of " << size << ", " << m << " rows";
    }
}

TEST(GemmS8, GroupsEmulated) {
  for (const bool rows_too : {false, true}) {
    check_groups(widen_gemm<EmulatedAvx2>, WeightLayout::kPairs, 255 * 128, 4, rows_too);
    check_groups(maddubs_gemm<EmulatedAvx2, 4, 2, false>, WeightLayout::kQuads, 32767 / 4, 8,
                 rows_too);
    check_groups(maddubs_gemm<EmulatedAvx2, 3, 8, true>, WeightLayout::kNibbles, 32767 / 16, 32,
                 rows_too);
    check_groups(vnni_gemm<EmulatedVnni<32, 6>, 8>, WeightLayout::kQuads, 255 * 128, 4, rows_too);
    check_groups(vnni_gemm<EmulatedVnni<64, 12>, 4>, WeightLayout::kNibbles, 255 * 128, 8,
                 rows_too);
    check_groups(amx_gemm<>, WeightLayout::kQuads, 255 * 128, 64, rows_too);
  }
}

TEST(GemmS8, Avx2WidenEmulated) {
  check_sums(widen_gemm<EmulatedAvx2>, WeightLayout::kPairs, 255 * 128);
}
TEST(GemmS8, Avx2MaddubsEmulated) {
  check_sums(maddubs_gemm<EmulatedAvx2, 4, 1, false>, WeightLayout::kQuads, 32767 / 2);
}
TEST(GemmS8, Avx2Maddubs2Emulated) {
  check_sums(maddubs_gemm<EmulatedAvx2, 4, 2, false>, WeightLayout::kQuads, 32767 / 4);
}
TEST(GemmS8, Avx2Maddubs8Emulated) {
  check_sums(maddubs_gemm<EmulatedAvx2, 3, 8, false>, WeightLayout::kQuads, 32767 / 16);
}
TEST(GemmS8, Avx2Maddubs16Emulated) {
  check_sums(maddubs_gemm<EmulatedAvx2, 3, 16, false>, WeightLayout::kQuads, 32767 / 32);
}
TEST(GemmS8, Avx2NibblesEmulated) {
  check_sums(maddubs_gemm<EmulatedAvx2, 3, 8, true>, WeightLayout::kNibbles, 32767 / 16);
}
TEST(GemmS8, AvxVnniEmulated) {
  check_sums(vnni_gemm<EmulatedVnni<32, 6>, 8>, WeightLayout::kQuads, 255 * 128);
}
TEST(GemmS8, AvxVnniNibblesEmulated) {
  check_sums(vnni_gemm<EmulatedVnni<32, 6>, 4>, WeightLayout::kNibbles, 255 * 128);
}
TEST(GemmS8, Avx512VnniEmulated) {
  check_sums(vnni_gemm<EmulatedVnni<64, 12>, 8>, WeightLayout::kQuads, 255 * 128);
}
TEST(GemmS8, Avx512VnniNibblesEmulated) {
  check_sums(vnni_gemm<EmulatedVnni<64, 12>, 4>, WeightLayout::kNibbles, 255 * 128);
}
TEST(GemmS8, Avx2Crumbs8Emulated) {
  check_sums(crumbs_gemm<EmulatedAvx2, 3, 8>, WeightLayout::kCrumbs, 32767 / 16);
}
TEST(GemmS8, Avx2Crumbs16Emulated) {
  check_sums(crumbs_gemm<EmulatedAvx2, 3, 16>, WeightLayout::kCrumbs, 32767 / 32);
}
TEST(GemmS8, AvxVnniCrumbsEmulated) {
  check_sums(vnni_crumbs_gemm<EmulatedVnni<32, 6>>, WeightLayout::kCrumbs, 255 * 128);
}
TEST(GemmS8, Avx512VnniCrumbsEmulated) {
  check_sums(vnni_crumbs_gemm<EmulatedVnni<64, 12>>, WeightLayout::kCrumbs, 255 * 128);
}
TEST(GemmS8, AmxCrumbsEmulated) {
  check_sums(amx_gemm<UnpackedPanels>, WeightLayout::kCrumbs, 255 * 128);
}
TEST(GemmS8, AmxEmulated) { check_sums(amx_gemm<>, WeightLayout::kQuads, 255 * 128); }

/// One epilogue with everything in it, spelled with library functions.
struct EpilogueCase {
  const char* name;
  Activation activation;
  bool rowwise, asymmetric, gated, codes_out;
  int residual;         // 0 none, 1 f32, 2 codes with an affine
  bool affine = false;  ///< of the codes, by column
};
constexpr EpilogueCase kCases[] = {
    {"plain", Activation::kNone, false, false, false, false, 0},
    {"relu_codes", Activation::kRelu, false, false, false, true, 0},
    {"relu6_residual", Activation::kRelu6, false, false, false, false, 1},
    {"gelu_codes", Activation::kGelu, false, false, false, true, 0},
    {"gelu_tanh_rowwise", Activation::kGeluTanh, true, false, false, false, 0},
    {"silu_gated", Activation::kSilu, false, false, true, true, 0},
    {"gated_rowwise_asymmetric", Activation::kGelu, true, true, true, true, 0},
    {"residual", Activation::kNone, false, false, false, false, 1},
    {"residual_codes", Activation::kNone, true, true, false, false, 2},
    {"tanh_residual_to_codes", Activation::kTanh, false, true, false, true, 1},
    {"codes_by_column", Activation::kNone, false, false, false, true, 0, true},
    {"gelu_codes_by_column", Activation::kGelu, false, true, false, true, 1, true},
    {"gated_codes_by_column", Activation::kSilu, true, false, true, true, 0, true}};

double activated(Activation kind, double v) {
  switch (kind) {
    case Activation::kNone: return v;
    case Activation::kRelu: return std::max(v, 0.0);
    case Activation::kRelu6: return std::clamp(v, 0.0, 6.0);
    case Activation::kGelu: return 0.5 * v * (1 + std::erf(v / std::sqrt(2.0)));
    case Activation::kGeluTanh:
      return 0.5 * v * (1 + std::tanh(std::sqrt(2 / M_PI) * (v + 0.044715 * v * v * v)));
    case Activation::kSilu: return v / (1 + std::exp(-v));
    case Activation::kTanh: return std::tanh(v);
  }
  return v;
}

/// Runs `c` with a kernel; returns the output bytes. Compares with doubles on the way.
std::vector<std::uint8_t> run_epilogue(const EpilogueCase& c, GemmS8 run, WeightLayout layout,
                                       int max_x, int max_w) {
  const std::int64_t m = 19, n = 96 - (c.gated ? 0 : 7), k = 70, panels = 3;
  const Problem p = make_problem(m, n, k, max_x, max_w, 77);
  const PackedWeights packed = pack_weights(p.w.data(), n, k, layout);
  Random rng(5);
  const auto values = [&](std::size_t count, double scale) {
    std::vector<float> v(count);
    for (auto& x : v) x = static_cast<float>((rng.uniform() - 0.5) * scale);
    return v;
  };
  const auto ints = [&](std::size_t count, int bound) {
    std::vector<std::int32_t> v(count);
    for (auto& x : v)
      x = static_cast<std::int32_t>(rng.below(static_cast<std::uint64_t>(2 * bound))) - bound;
    return v;
  };
  std::vector<float> scale = values(96, 1e-4), bias = values(96, 2), row_scale = values(19, 2),
                     residual = values(19 * 96, 4);
  for (float& s : scale) s = std::fabs(s) + 1e-5F;
  const std::vector<float> column_scale = values(96, 2), column_shift = values(96, 1);
  std::vector<float> code_scale = values(96, 2);
  for (float& s : code_scale) s = std::fabs(s) + 0.5F;
  const std::vector<std::int32_t> offset = ints(96, 3000), row_zero = ints(19, 128),
                                  factor = ints(96, 40), term = ints(19, 500),
                                  weight_zero = ints(96, 100);
  std::vector<std::uint8_t> residual_codes(19 * 96);
  for (auto& v : residual_codes) v = static_cast<std::uint8_t>(rng.below(256));
  const std::int64_t out_n = c.gated ? n / 2 : n;
  std::vector<float> out(static_cast<std::size_t>(m * 96), -7.0F);
  std::vector<std::uint8_t> codes(static_cast<std::size_t>(m * 96), 77);
  Epilogue e;
  e.column_offset = offset.data();
  e.scale = scale.data();
  e.bias = bias.data();
  if (c.rowwise) {
    e.row_scale = row_scale.data();
    e.row_zero = row_zero.data();
    e.column_zero_factor = factor.data();
  }
  if (c.asymmetric) {
    e.row_term = term.data();
    e.weight_zero = weight_zero.data();
  }
  e.activation = c.activation;
  e.gated = c.gated;
  if (c.residual == 1) e.residual.f32 = residual.data();
  if (c.residual == 2) {
    e.residual.codes = residual_codes.data();
    e.residual.zero = 100;
    e.residual.scale = 0.03F;
    e.residual.column_scale = column_scale.data();
    e.residual.column_shift = column_shift.data();
  }
  e.residual.ld = 96;
  c.codes_out ? void(e.codes = codes.data()) : void(e.f32 = out.data());
  e.ld_out = 96;
  e.code_args = {40.0F, 120, 0, 255};
  if (c.affine) {
    e.code_scale = code_scale.data();
    e.code_shift = column_shift.data();
  }
  // In several calls, so that rows and panels are respected.
  run(p.x.data(), p.ldx, packed, e, 0, 1, 0, panels);
  run(p.x.data(), p.ldx, packed, e, 1, 8, 0, panels);
  run(p.x.data(), p.ldx, packed, e, 8, m, 0, 2);
  run(p.x.data(), p.ldx, packed, e, 8, m, 2, panels);

  const std::vector<std::int32_t> acc = naive(p);
  const auto value = [&](std::int64_t i, std::int64_t j) {
    const auto r = static_cast<std::size_t>(i), q = static_cast<std::size_t>(j);
    std::int64_t sum = acc[static_cast<std::size_t>(i * n + j)] + offset[q];
    if (c.rowwise) sum += row_zero[r] * factor[q];
    if (c.asymmetric) sum += term[r] * weight_zero[q];
    return static_cast<double>(scale[q]) * (c.rowwise ? static_cast<double>(row_scale[r]) : 1.0) *
               static_cast<double>(sum) +
           static_cast<double>(bias[q]);
  };
  for (std::int64_t i = 0; i < m; ++i)
    for (std::int64_t j = 0; j < 96; ++j) {
      const auto at = static_cast<std::size_t>(i * 96 + j);
      if (j >= out_n) {
        EXPECT_EQ(out[at], -7.0F);
        EXPECT_EQ(codes[at], 77);
        continue;
      }
      const std::int64_t first = c.gated ? j / 16 * 32 + j % 16 : j;
      double want =
          activated(c.activation, value(i, first)) * (c.gated ? value(i, first + 16) : 1.0);
      if (c.residual == 1) want += static_cast<double>(residual[at]);
      if (c.residual == 2)
        want += static_cast<double>((static_cast<float>(residual_codes[at]) - 100) * 0.03F) *
                    static_cast<double>(column_scale[static_cast<std::size_t>(j)]) +
                static_cast<double>(column_shift[static_cast<std::size_t>(j)]);
      if (c.affine)
        want = (want - static_cast<double>(column_shift[static_cast<std::size_t>(j)])) /
               static_cast<double>(code_scale[static_cast<std::size_t>(j)]);
      if (c.codes_out)
        EXPECT_NEAR(codes[at], std::clamp(want * 40 + 120, 0.0, 255.0), 0.51)
            << c.name << " " << i << "," << j;
      else
        EXPECT_NEAR(static_cast<double>(out[at]), want, 2e-5 * (1 + std::fabs(want)))
            << c.name << " " << i << "," << j;
    }
  if (c.codes_out) return codes;
  const auto* bytes = reinterpret_cast<const std::uint8_t*>(out.data());
  return {bytes, bytes + out.size() * sizeof(float)};
}

/// Squared differences to a target instead of outputs, by lane.
std::vector<double> squared_errors(GemmS8 run, WeightLayout layout, int max_x, int max_w,
                                   bool rowwise, bool asymmetric) {
  const std::int64_t m = 45, n = 70, k = 70;
  const Problem p = make_problem(m, n, k, max_x, max_w, 31);
  const PackedWeights packed = pack_weights(p.w.data(), n, k, layout);
  const std::int64_t panels = packed.padded_n() / kPanel;
  Random rng(5);
  std::vector<float> scale(static_cast<std::size_t>(packed.padded_n()), 0.0F),
      bias = scale, row_scale(static_cast<std::size_t>(m)),
      target(static_cast<std::size_t>(packed.padded_n() * m), 0.0F);
  std::vector<std::int32_t> zero(static_cast<std::size_t>(packed.padded_n()), 3),
      row(static_cast<std::size_t>(m));
  for (std::size_t j = 0; j < static_cast<std::size_t>(n); ++j)
    scale[j] = static_cast<float>(1e-3 + 1e-3 * rng.uniform()),
    bias[j] = static_cast<float>(rng.uniform());
  for (std::size_t i = 0; i < row.size(); ++i)
    row_scale[i] = static_cast<float>(0.5 + rng.uniform()),
    row[i] = static_cast<std::int32_t>(rng.below(100));
  for (std::int64_t q = 0; q < panels; ++q)
    for (std::int64_t i = 0; i < m; ++i)
      for (std::int64_t j = 0; j < std::min(kPanel, n - q * kPanel); ++j)
        target[static_cast<std::size_t>((q * m + i) * kPanel + j)] =
            static_cast<float>(10 * rng.uniform());
  std::vector<double> sums(static_cast<std::size_t>(m * kErrorLanes), 0.0);
  Epilogue e;
  e.scale = scale.data();
  e.bias = bias.data();
  if (rowwise)
    e.row_scale = row_scale.data(), e.row_zero = row.data(), e.column_zero_factor = zero.data();
  if (asymmetric) e.row_term = row.data(), e.weight_zero = zero.data();
  e.target = target.data();
  e.target_rows = m;
  e.squared_error = sums.data();
  run(p.x.data(), p.ldx, packed, e, 0, 40, 0, panels);
  run(p.x.data(), p.ldx, packed, e, 40, m, 0, 1);
  run(p.x.data(), p.ldx, packed, e, 40, m, 1, panels);
  const std::vector<std::int32_t> acc = naive(p);
  for (std::int64_t i = 0; i < m; ++i)
    for (std::int64_t lane = 0; lane < kErrorLanes; ++lane) {
      double want = 0;
      for (std::int64_t j = lane; j < n; j += kErrorLanes) {
        const auto at = static_cast<std::size_t>(j), r = static_cast<std::size_t>(i);
        std::int64_t sum = acc[static_cast<std::size_t>(i * n + j)];
        if (rowwise) sum += row[r] * zero[at];
        if (asymmetric) sum += row[r] * zero[at];
        const double y = static_cast<double>(scale[at]) *
                             (rowwise ? static_cast<double>(row_scale[r]) : 1.0) *
                             static_cast<double>(sum) +
                         static_cast<double>(bias[at]);
        const auto in_target = static_cast<std::size_t>((j / kPanel * m + i) * kPanel + j % kPanel);
        want += std::pow(y - static_cast<double>(target[in_target]), 2);
      }
      EXPECT_NEAR(sums[static_cast<std::size_t>(i * kErrorLanes + lane)], want, 1e-6 * want + 1e-5)
          << i << ", " << lane;
    }
  return sums;
}

class Native : public testing::TestWithParam<GemmS8Kernel> {};

TEST_P(Native, EqualsPlainSums) {
  if (!cpu_supports(GetParam().isa))
    GTEST_SKIP() << "this processor lacks " << isa_name(GetParam().isa)
                 << "; the emulated test ran";
  check_sums(GetParam().run, GetParam().layout, GetParam().max_product);
}

TEST_P(Native, GroupsGiveTheReferencesBytes) {
  if (!cpu_supports(GetParam().isa))
    GTEST_SKIP() << "this processor lacks " << isa_name(GetParam().isa);
  check_groups(GetParam().run, GetParam().layout, GetParam().max_product, GetParam().group_unit,
               false);
  check_groups(GetParam().run, GetParam().layout, GetParam().max_product, GetParam().group_unit,
               true);
}

TEST_P(Native, EpiloguesGiveTheReferencesBytes) {
  if (!cpu_supports(GetParam().isa))
    GTEST_SKIP() << "this processor lacks " << isa_name(GetParam().isa);
  const int max_x = GetParam().max_product < 2000 ? 15 : 127,
            max_w = GetParam().max_product < 4096 ? 7 : 63;
  for (const EpilogueCase& c : kCases) {
    if (max_x * max_w > GetParam().max_product) continue;
    const int bound = bound_of(GetParam().layout, max_w == 63 ? 63 : 7);
    EXPECT_EQ(run_epilogue(c, GetParam().run, GetParam().layout, max_x, bound),
              run_epilogue(c, gemm_s8_reference, WeightLayout::kQuads, max_x, bound))
        << c.name;
  }
}

TEST_P(Native, SquaredErrorsAreTheReferences) {
  if (!cpu_supports(GetParam().isa))
    GTEST_SKIP() << "this processor lacks " << isa_name(GetParam().isa);
  const int max_x = GetParam().max_product < 2000 ? 15 : 63, max_w = bound_of(GetParam().layout, 7);
  for (const bool rowwise : {false, true})
    for (const bool asymmetric : {false, true})
      EXPECT_EQ(
          squared_errors(GetParam().run, GetParam().layout, max_x, max_w, rowwise, asymmetric),
          squared_errors(gemm_s8_reference, WeightLayout::kQuads, max_x, max_w, rowwise,
                         asymmetric));
}

INSTANTIATE_TEST_SUITE_P(GemmS8, Native,
                         testing::ValuesIn(gemm_s8_kernels().begin(), gemm_s8_kernels().end()),
                         [](const auto& info) { return std::string(info.param.name) + "_native"; });

TEST(GemmS8, EmulatedEpiloguesGiveTheReferencesBytes) {
  for (const EpilogueCase& c : kCases) {
    const auto want = run_epilogue(c, gemm_s8_reference, WeightLayout::kQuads, 127, 63);
    EXPECT_EQ(run_epilogue(c, amx_gemm<>, WeightLayout::kQuads, 127, 63), want) << c.name;
    EXPECT_EQ(run_epilogue(c, vnni_gemm<EmulatedVnni<32, 6>, 8>, WeightLayout::kQuads, 127, 63),
              want)
        << c.name;
    EXPECT_EQ(run_epilogue(c, widen_gemm<EmulatedAvx2>, WeightLayout::kPairs, 127, 63), want)
        << c.name;
  }
}

TEST(GemmS8, PackedActivationsEqualPackedWeights) {
  Random rng(9);
  for (const auto layout : {WeightLayout::kQuads, WeightLayout::kPairs})
    for (const auto [n, k] :
         {std::array<std::int64_t, 2>{1, 1}, {5, 64}, {33, 30}, {64, 128}, {70, 65}}) {
      std::vector<std::uint8_t> rows(static_cast<std::size_t>(n * k)), columns(rows.size());
      std::vector<std::int8_t> codes(rows.size());
      for (std::int64_t i = 0; i < n; ++i)
        for (std::int64_t j = 0; j < k; ++j) {
          const auto at = static_cast<std::size_t>(i * k + j);
          rows[at] = static_cast<std::uint8_t>(rng.below(256));
          columns[static_cast<std::size_t>(j * n + i)] = rows[at];
          codes[at] = static_cast<std::int8_t>(rows[at] - 128);
        }
      const PackedWeights want = pack_weights(codes.data(), n, k, layout);
      PackedWeights got;
      for (const bool transposed : {true, false}) {
        pack_activations(transposed ? columns.data() : rows.data(), transposed ? n : k, n, k,
                         transposed, 128, layout, got);
        const auto size = static_cast<std::size_t>(want.padded_n() / kPanel * want.panel_bytes());
        EXPECT_EQ(std::memcmp(want.data.data(), got.data.data(), size), 0)
            << n << "x" << k << (transposed ? " transposed" : "");
        EXPECT_EQ(want.row_sum, got.row_sum);
      }
    }
}

TEST(GemmS8, ChoiceNeverSaturates) {
  EXPECT_EQ(choose_gemm_s8(Isa::kAvx2, 255, 127).name, "avx2_widen");
  EXPECT_EQ(choose_gemm_s8(Isa::kAvx2, 255, 64).name, "avx2_maddubs");
  EXPECT_EQ(choose_gemm_s8(Isa::kAvx2, 127, 63).name, "avx2_maddubs2");
  EXPECT_EQ(choose_gemm_s8(Isa::kAvx2, 63, 31).name, "avx2_maddubs8");
  EXPECT_EQ(choose_gemm_s8(Isa::kAvx2, 15, 7).name, "avx2_maddubs16");
  EXPECT_EQ(choose_gemm_s8(Isa::kAvx2, 255, 8, 4).name, "avx2_nibbles");
  EXPECT_EQ(choose_gemm_s8(Isa::kPortable, 63, 31).name, "reference");
  EXPECT_EQ(choose_gemm_s8(Isa::kAmx, 255, 8, 4).name, "avx512_vnni_nibbles");
  EXPECT_EQ(choose_gemm_s8(Isa::kAmx, 255, 127, 8, 32).name, "avx512_vnni");
  EXPECT_EQ(choose_gemm_s8(Isa::kAmx, 255, 127, 8, 128).name, "amx");
  EXPECT_EQ(choose_gemm_s8(Isa::kAvx2, 15, 7, 8, 32).name, "avx2_maddubs8");
  EXPECT_EQ(choose_gemm_s8(Isa::kAvx2, 255, 2, 2).name, "avx2_crumbs16");
  EXPECT_EQ(choose_gemm_s8(Isa::kAmx, 255, 2, 2).name, "amx_crumbs");
}

TEST(GemmS8, ChoosesTheNarrowestKernelThatTakesTheGroups) {
  EXPECT_EQ(choose_gemm_s8(Isa::kAvx2, 255, 2, 2, 32).name, "avx2_crumbs8");
  EXPECT_EQ(choose_gemm_s8(Isa::kAvxVnni, 255, 2, 2, 16).name, "avx_vnni_crumbs");
  EXPECT_EQ(choose_gemm_s8(Isa::kAmx, 255, 2, 2, 32).name, "avx512_vnni_crumbs");
  EXPECT_EQ(choose_gemm_s8(Isa::kAmx, 255, 2, 2, 8).name, "avx512_vnni_nibbles");
  EXPECT_EQ(choose_gemm_s8(Isa::kAvx2, 255, 2, 2, 16).name, "avx2_maddubs2");
  EXPECT_EQ(choose_gemm_s8(Isa::kAvx2, 255, 8, 4, 16).name, "avx2_maddubs2");
  EXPECT_EQ(choose_gemm_s8(Isa::kPortable, 255, 2, 2, 16).name, "reference_crumbs");
}

TEST(GemmS8, CountsTheBitsThatHoldAllCodes) {
  const auto bits = [](std::vector<std::int8_t> codes) { return packed_bits_of(codes); };
  EXPECT_EQ(bits({-2, 1}), 2);
  EXPECT_EQ(bits({-2, 2}), 4);
  EXPECT_EQ(bits({-3, 0}), 4);
  EXPECT_EQ(bits({-8, 7}), 4);
  EXPECT_EQ(bits({0, 8}), 8);
  EXPECT_EQ(bits({-9}), 8);
}

}  // namespace
}  // namespace quell::kernels
