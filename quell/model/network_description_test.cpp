// Networks that config.json describes: what is built, and what is refused and how.
#include "quell/model/network_description.h"

#include <gtest/gtest.h>

#include "quell/base/error.h"
#include "quell/graph/image_ops.h"
#include "quell/io/json.h"
#include "quell/model/model.h"

namespace quell {
namespace {

Tensor filled_tensor(Shape shape, float value) {
  Tensor t = Tensor::f32(std::move(shape));
  for (float& v : t.f32()) v = value;
  return t;
}

/// Two convolutions beside each other, their sum, and a classifier.
Json description() {
  return parse_json(R"({"input": [2, 4, 4], "classes": 3, "graph": [
    {"op": "conv", "inp": ["x"], "out": "a", "weight": "a.weight", "stride": [1, 1],
     "pad": [1, 1, 1, 1], "dilation": 1, "groups": 1, "bn": "a_bn", "bn_eps": 0.001, "act": "relu6"},
    {"op": "conv", "inp": ["x"], "out": "b", "weight": "b.kernel", "bias": "b.bias",
     "stride": [1, 1], "pad": [0, 0, 0, 0]},
    {"op": "add", "inp": ["a", "b"], "out": "sum", "act": "prelu", "prelu": "slopes"},
    {"op": "global_avg_pool", "inp": ["sum"], "out": "pool"},
    {"op": "linear", "inp": ["pool"], "out": "logits", "weight": "fc.weight", "bias": "fc.bias"}]})",
                    "test");
}

std::map<std::string, Tensor> described_tensors() {
  std::map<std::string, Tensor> t;
  t["a.weight"] = filled_tensor({4, 2, 3, 3}, 1);
  for (const char* name : {"a_bn.weight", "a_bn.bias", "a_bn.running_mean", "a_bn.running_var"})
    t[name] = filled_tensor({4}, 1);
  t["b.kernel"] = filled_tensor({4, 2, 1, 1}, 1);
  t["b.bias"] = filled_tensor({4}, -7);
  t["slopes"] = filled_tensor({1}, 0.5F);
  t["fc.weight"] = filled_tensor({3, 4}, 1);
  t["fc.bias"] = filled_tensor({3}, 0.25F);
  return t;
}

Architecture build_from(const Json& config, std::map<std::string, Tensor> tensors) {
  const Checkpoint checkpoint = Checkpoint::in_memory(std::move(tensors));
  return build_architecture(Settings(config, "net/config.json"), find_family("graph"), &checkpoint);
}

std::string refusal_of(const Json& config, std::map<std::string, Tensor> tensors) {
  try {
    build_from(config, std::move(tensors));
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

TEST(NetworkDescription, BuildsWhatItSays) {
  const Model model =
      make_model(build_from(description(), described_tensors()), described_tensors());
  EXPECT_TRUE(model.unused_tensors.empty());
  EXPECT_EQ(model.spec.head, Head::kImageClassification);
  for (const char* label : {"a", "a.bn", "a.act", "b", "sum", "sum.act", "pool", "logits"})
    EXPECT_NE(model.graph.find(label), kNoNode) << label;
}

TEST(NetworkDescription, TheOrderOfTheListDoesNotMatter) {
  Json config = description();
  std::reverse(config["graph"].begin(), config["graph"].end());
  const Architecture made = build_from(config, described_tensors());
  EXPECT_EQ(made.graph.outputs.front().first, "logits");
}

TEST(NetworkDescription, OutputsAreThoseThatItNames) {
  Json config = description();
  config["outputs"] = {{"sum", "a map"}, {"logits", "scores"}};
  const Architecture made = build_from(config, described_tensors());
  EXPECT_EQ(made.graph.outputs.size(), 2U);
  config["outputs"] = {{"nothing", "?"}};
  EXPECT_EQ(refusal_of(config, described_tensors()),
            "net/config.json: key \"outputs\": no node computes \"nothing\"");
}

/// `change` of the description is refused with `words`, behind the file's name.
void expect_refusal(const std::function<void(Json&)>& change, const std::string& words) {
  Json config = description();
  change(config);
  EXPECT_EQ(refusal_of(config, described_tensors()), "net/config.json: " + words);
}

TEST(NetworkDescription, SaysWhatIsWrong) {
  expect_refusal([](Json& c) { c["graph"][0]["op"] = "warp"; },
                 "node \"a\": op \"warp\" is not known");
  expect_refusal(
      [](Json& c) {
        c["graph"][2]["inp"] = {"a", "c"};
      },
      "node \"sum\": reads \"c\", which no node computes");
  expect_refusal([](Json& c) { c["graph"][1]["inp"] = {"sum"}; },
                 "node \"b\": reads \"sum\", which is computed from it: the graph has a cycle");
  expect_refusal([](Json& c) { c["graph"][1]["out"] = "a"; },
                 "node \"a\": \"a\" is computed twice");
  expect_refusal([](Json& c) { c["graph"][1]["out"] = "x"; },
                 "node \"x\": \"x\" is computed twice");
  expect_refusal([](Json& c) { c["graph"][0]["scale"] = 2; },
                 "node \"a\": key \"scale\" is not known of op \"conv\"");
  expect_refusal([](Json& c) { c["graph"][1] = 7; }, "graph[1]: is not an object");
  expect_refusal([](Json& c) { c["graph"][0]["act"] = "swoosh"; },
                 "node \"a\": key \"act\": activation \"swoosh\" is not known");
  expect_refusal([](Json& c) { c["graph"][0]["weight"] = "z.weight"; },
                 "node \"a\": tensor \"z.weight\" is not in the checkpoint");
  expect_refusal([](Json& c) { c["graph"][0]["weight"] = "fc.weight"; },
                 "node \"a\": tensor \"fc.weight\" has shape [3, 4], and must have 4 dimensions");
  expect_refusal([](Json& c) { c["graph"][0]["groups"] = 2; },
                 "node \"a\": tensor \"a.weight\" has shape [4, 2, 3, 3], which with 2 groups does "
                 "not read the 2 channels of \"x\"");
  expect_refusal(
      [](Json& c) {
        c["graph"][1]["stride"] = {2, 2};
      },
      "node \"sum\": \"a\" is 4 x 4 x 4 and \"b\" 4 x 2 x 2");
  expect_refusal([](Json& c) { c["graph"][0]["bn"] = "slopes"; },
                 "node \"a\": tensor \"slopes.weight\" is not in the checkpoint");
  expect_refusal([](Json& c) { c["graph"][0].erase("stride"); },
                 "node \"a\": key \"stride\": must be a list of 2 numbers");
  expect_refusal(
      [](Json& c) {
        c["graph"][0]["pad"] = {0, 0, 0, -1};
      },
      "node \"a\": key \"pad\": expected an integer from 0 to 4096, found -1");
  expect_refusal(
      [](Json& c) {
        c["input"] = {2, 2, 2};
        c["graph"][0]["pad"] = {0, 0, 0, 0};
      },
      "node \"a\": a: nothing is left of an image of 2 x 2");
  expect_refusal([](Json& c) { c["classes"] = 10; },
                 "node \"logits\": gives 3 classes, and key \"classes\" says 10");
  expect_refusal([](Json& c) { c["graph"] = Json::array(); }, "key \"graph\": holds no nodes");
  expect_refusal([](Json& c) { c["graph"][3].erase("out"); },
                 "graph[3]: key \"out\": must be a name");
}

TEST(NetworkDescription, ATensorThatDoesNotFitIsNamed) {
  std::map<std::string, Tensor> tensors = described_tensors();
  tensors["a_bn.running_var"] = filled_tensor({5}, 1);
  EXPECT_EQ(refusal_of(description(), std::move(tensors)),
            "net/config.json: node \"a\": tensor \"a_bn.running_var\" has shape [5], and [4] fits");
}

TEST(NetworkDescription, AWeightThatIsUsedTwiceHasOneBias) {
  const auto with_second = [](const Json& changes) {
    Json config = description();
    Json second = config["graph"][1];
    second["out"] = "again";
    for (const auto& [key, value] : changes.items()) second[key] = value;
    if (second["bias"].is_null()) second.erase("bias");
    config["graph"].push_back(second);
    std::map<std::string, Tensor> tensors = described_tensors();
    tensors["other.bias"] = filled_tensor({4}, 3);
    return refusal_of(config, std::move(tensors));
  };
  EXPECT_EQ(with_second(Json::object()), "");
  const std::string refusal =
      "net/config.json: node \"again\": b.kernel: is used twice, with other tensors beside its "
      "weight or in another order";
  EXPECT_EQ(with_second({{"bias", "other.bias"}}), refusal);
  EXPECT_EQ(with_second({{"bias", nullptr}}), refusal);
}

TEST(NetworkDescription, NeedsACheckpoint) {
  EXPECT_THROW(build_architecture(Settings(description()), find_family("graph")), Error);
}

}  // namespace
}  // namespace quell
