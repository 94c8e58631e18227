#include "quell/quant/scheme.h"

#include <gtest/gtest.h>

#include "quell/base/error.h"

namespace quell {
namespace {

TEST(Schemes, AreReadAsTheyAreWritten) {
  for (const char* text : {"W8A8", "W4A6", "W1.58A8", "W2A8 E8", "W1.58A8 E2", "W32A32", "W2A16"})
    EXPECT_EQ(parse_scheme(text).text(), text);
  EXPECT_EQ(parse_scheme("w1.58a8e2").text(), "W1.58A8 E2");
}

TEST(Schemes, EmbeddingsAreAsWeightsUnlessSaid) {
  EXPECT_EQ(parse_scheme("W1.58A8").of_embeddings(), (SchemeBits{.bits = 2, .is_ternary = true}));
  EXPECT_EQ(parse_scheme("W2A8 E4").of_embeddings().bits, 4);
  EXPECT_TRUE(parse_scheme("W2A8 E32").of_embeddings().is_float());
}

TEST(Schemes, OthersAreRefused) {
  for (const char* text : {"", "W8", "A8W8", "W9A8", "W8A9", "W1.58A1.58", "W2A8 E", "W2A8  E8",
                           "W8A8 ", "W16A8", "W8A8 E2 E2"})
    EXPECT_THROW(parse_scheme(text), Error) << text;
}

}  // namespace
}  // namespace quell
