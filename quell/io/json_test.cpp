#include "quell/io/json.h"

#include <gtest/gtest.h>

#include <utility>

namespace quell {
namespace {

TEST(JsonBox, CopiesLikeTheValue) {
  const JsonBox empty;
  EXPECT_TRUE(empty->is_null());

  JsonBox box = Json{{"key", 1}};
  const JsonBox copy = box;
  (*box)["key"] = 2;
  EXPECT_EQ((*copy)["key"], 1);
  EXPECT_EQ(box->at("key"), 2);

  JsonBox moved = std::move(box);
  EXPECT_EQ(moved->at("key"), 2);
  box = copy;
  EXPECT_EQ(box->at("key"), 1);
}

}  // namespace
}  // namespace quell
