#include "quell/vision/label_file.h"

#include <gtest/gtest.h>

#include "quell/base/error.h"

namespace quell {
namespace {

template <typename Call>
std::string refusal(Call call) {
  try {
    call();
  } catch (const Error& e) {
    return e.what();
  }
  return "accepted";
}

std::string label_refusal(const std::string& text) {
  return refusal([&] { parse_labels(text, "l.tsv"); });
}

TEST(LabelFile, NamesClassesAndWhatStandsBehind) {
  const LabelFile labels = parse_labels(
      "\xef\xbb\xbf"
      "a/0.jpg\t3\tn01\tx\r\n\nb.png\t0",
      "l.tsv");
  ASSERT_EQ(labels.rows.size(), 2U);
  EXPECT_EQ(labels.rows[0].name, "a/0.jpg");
  EXPECT_EQ(labels.rows[0].label, 3);
  EXPECT_EQ(labels.rows[0].others, (std::vector<std::string>{"n01", "x"}));
  EXPECT_EQ(labels.rows[1].name, "b.png");
  EXPECT_EQ(labels.rows[1].label, 0);
  EXPECT_EQ(labels.rows[1].line, 3U);
}

TEST(LabelFile, MistakesAreToldWithTheirLine) {
  EXPECT_EQ(label_refusal(""), "l.tsv: no labels in it");
  EXPECT_EQ(label_refusal("a.jpg\t1\nb.jpg\n"),
            "l.tsv line 2: expected the name of an image, a tab and its class");
  EXPECT_EQ(label_refusal("a.jpg\tcat\n"),
            "l.tsv line 1: the second column must be a class from 0 to 1048575");
  EXPECT_EQ(label_refusal("a.jpg\t-1\n"),
            "l.tsv line 1: the second column must be a class from 0 to 1048575");
  EXPECT_EQ(label_refusal("a.jpg\t1.0\n"),
            "l.tsv line 1: the second column must be a class from 0 to 1048575");
  EXPECT_EQ(label_refusal("a.jpg\t1\nb.jpg\t2\na.jpg\t1\n"),
            "l.tsv line 3: \"a.jpg\" has a class on line 1 already");
  EXPECT_EQ(label_refusal("\t1\n"), "l.tsv line 1: an image without a name");
  EXPECT_EQ(label_refusal("a\x1b[1m.jpg\t1\n"),
            "l.tsv line 1: the name of an image has characters that do not print");
}

TEST(LabelFile, EveryImageHasOneLabelAndEveryLabelAnImage) {
  const LabelFile labels = parse_labels("b.jpg\t1\na.jpg\t2\n", "l.tsv");
  EXPECT_EQ(match_labels(labels, {"a.jpg", "b.jpg"}, "t.tar"), (std::vector<std::int64_t>{1, 0}));
  EXPECT_EQ(refusal([&] {
              match_labels(labels, {"a.jpg", "c.jpg"}, "t.tar");
            }),
            "l.tsv line 1: no image \"b.jpg\" in t.tar");
  EXPECT_EQ(refusal([&] {
              match_labels(labels, {"a.jpg", "b.jpg", "c.jpg"}, "t.tar");
            }),
            "l.tsv: 2 labels for the 3 images of t.tar; \"c.jpg\" has none");
}

}  // namespace
}  // namespace quell
