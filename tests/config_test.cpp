// config.json as transformers reads it: defaults of every family, null, aliases, keys that change
// results, unknown keys.
#include <gtest/gtest.h>

#include <set>
#include <sstream>

#include "quell/base/error.h"
#include "quell/base/log.h"
#include "quell/graph/image_ops.h"
#include "quell/io/json.h"
#include "quell/model/config_keys.h"
#include "quell/model/family.h"
#include "quell/model/model.h"
#include "tests/support/support.h"

namespace quell {
namespace {

/// What a family makes of a config, as text: one line for each fact, parameter and node.
struct Reading {
  ModelSpec spec;
  std::vector<AttentionSpec> attention;  ///< by layer
  std::vector<std::string> lines;
  bool operator==(const Reading& other) const { return lines == other.lines; }
};

std::string line_of(const AttentionSpec& a) {
  std::string line =
      str("attention ", a.num_heads, " ", a.num_kv_heads, " ", a.head_dim, " ", a.causal, " ",
          a.cross, " ", a.sliding_window, " ", a.scale, " ", a.soft_cap, " ", a.disentangled.span,
          " ", a.disentangled.buckets, " ", a.disentangled.max_distance, " ",
          a.disentangled.content_to_position, " ", a.disentangled.position_to_content, " ",
          a.quantize_scaled_query, " ", a.rotary_amplitude);
  for (const float f : a.rotary_inv_freq) line += str(" ", f);
  for (const float s : a.alibi_slopes) line += str(" ", s);
  return line;
}

std::string line_of(const Window& w) {
  return str("window ", w.kernel_height, " ", w.stride_height, " ", w.stride_width, " ",
             w.dilation_height, " ", w.padding.top, " ", w.padding.bottom, " ", w.padding.left, " ",
             w.padding.right);
}

std::string line_of(const Node& node) {
  const Attributes& a = node.attributes;
  if (node.is(op_attention)) return line_of(attention_of(node));
  if (node.is(op_activation)) return std::string(activation_name(activation_of(node)));
  if (a.holds<NormAttributes>())
    return str("norm ", static_cast<int>(norm_of(node).kind), " ", norm_of(node).eps);
  if (a.holds<PositionAttributes>()) {
    const auto& p = a.get<PositionAttributes>();
    return str("positions ", static_cast<int>(p.rule), " ", p.offset, " ", p.pad_token_id);
  }
  if (a.holds<Factor>()) return str("factor ", a.get<Factor>().f64());
  if (a.holds<double>()) return str("number ", a.get<double>());
  if (a.holds<PatchAttributes>()) {
    const auto& p = a.get<PatchAttributes>();
    return str("patches ", p.image_size, " ", p.num_channels, " ", p.patch_size);
  }
  if (a.holds<ImageAttributes>()) {
    const auto& i = a.get<ImageAttributes>();
    return str("image ", i.channels, " ", i.size.height, " ", i.size.width);
  }
  if (a.holds<ConvAttributes>()) return line_of(a.get<ConvAttributes>().window);
  if (a.holds<PoolAttributes>()) return line_of(a.get<PoolAttributes>().window);
  if (a.holds<RelativeBiasAttributes>()) {
    const auto& r = a.get<RelativeBiasAttributes>();
    return str("buckets ", r.buckets, " ", r.max_distance, " ", r.bidirectional);
  }
  if (a.holds<SelectLastAttributes>())
    return str("pad ", a.get<SelectLastAttributes>().pad_token_id.value_or(-1));
  std::string tokens;
  if (a.holds<SelectEosAttributes>())
    for (const std::int32_t t : a.get<SelectEosAttributes>().tokens) tokens += str(" ", t);
  return tokens;
}

Reading read(const Settings& config) {
  Architecture made = build_architecture(config);
  Reading out;
  const ModelSpec& s = made.spec;
  std::string facts = str(s.vocab_size, " ", s.hidden_size, " ", s.intermediate_size, " ",
                          s.max_position_embeddings, " ", s.pad_token_id, " ", s.has_pad_token, " ",
                          s.decoder_start_token_id, " ", head_name(s.head));
  for (const std::int32_t t : s.eos_token_ids) facts += str(" ", t);
  out.lines.push_back(facts);
  for (const ParamDef& p : made.graph.params())
    out.lines.push_back(str(p.module, " ", p.shape.to_string(), " ", p.has_weight, p.has_bias, " ",
                            p.tied_to, p.packing.transposed, p.packing.parts, " ", p.bias_name));
  for (NodeId n = 0; n < made.graph.num_nodes(); ++n) {
    const Node& node = made.graph.node(n);
    out.lines.push_back(describe_node(made.graph, n) + " " + line_of(node));
    if (node.is(op_attention)) out.attention.push_back(attention_of(node));
  }
  out.spec = std::move(made.spec);
  return out;
}

Reading read(const Json& config) { return read(Settings(config, "config.json")); }

FileReport judge(const Settings& config) {
  const Family& family = find_family(config.json().at("model_type").get<std::string>());
  std::vector<KeyRule> rules(family.keys.begin(), family.keys.end());
  const auto general = config_key_rules();
  rules.insert(rules.end(), general.begin(), general.end());
  return judge_leftovers(config, rules);
}

/// Reads and judges; the message where something is refused, else "".
std::string refusal(const Json& config) {
  const Settings settings(config, "config.json");
  try {
    read(settings);
    judge(settings);
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

std::vector<std::string> model_types() {
  std::vector<std::string> out;
  for (const Family* family : all_of(static_cast<const Family*>(nullptr)))
    out.emplace_back(family->model_type);
  return out;
}

/// Those whose config.json is that of a class of transformers.
std::vector<std::string> model_types_of_transformers() {
  std::vector<std::string> out = model_types();
  std::erase(out, "graph");  // the network is described in the file
  std::erase(out, "lstr");
  return out;
}

std::vector<std::string> architectures_of(const std::string& model_type) {
  std::istringstream names{std::string(find_family(model_type).architectures)};
  std::vector<std::string> out;
  for (std::string name; names >> name;) out.push_back(name);
  return out;
}

/// Small sizes, so that models are quick to describe.
Json small(const std::string& model_type) {
  Json config = {{"model_type", model_type}, {"vocab_size", 50}};
  const auto set = [&](std::initializer_list<std::pair<const char*, int>> keys) {
    for (const auto& [key, value] : keys) config[key] = value;
  };
  if (model_type == "gpt2")
    set({{"n_embd", 16}, {"n_head", 2}, {"n_layer", 2}});
  else if (model_type == "bloom")
    set({{"hidden_size", 16}, {"n_head", 2}, {"n_layer", 2}});
  else if (model_type == "distilbert")
    set({{"dim", 16}, {"n_heads", 2}, {"n_layers", 2}, {"hidden_dim", 24}});
  else
    set({{"hidden_size", 16},
         {"num_attention_heads", 2},
         {"num_hidden_layers", 2},
         {"intermediate_size", 24}});
  if (model_type == "mistral" || model_type == "gemma2" || model_type.starts_with("qwen"))
    config["num_key_value_heads"] = 2;
  return config;
}

class ConfigDefaults : public ::testing::TestWithParam<std::string> {
 protected:
  /// Keys of the class with their defaults; false where the file is not there.
  bool load(Json& defaults) {
    const std::string folder = "golden/config_defaults/";
    auto path = quell::testing::find_data(folder + GetParam() + ".json");
    if (path.empty()) path = quell::testing::find_data(folder + "defaults.json");
    if (path.empty()) return false;
    defaults = read_json_file(path).at("defaults").at(GetParam());
    return true;
  }
};

/// Every key of the class is read or known, and says the default of Quell's reading where it is the
/// default of the class.
TEST_P(ConfigDefaults, MissingKeysAreThoseOfTransformers) {
  Json defaults;
  if (!load(defaults)) GTEST_SKIP() << "golden/config_defaults is not there; set QUELL_DATA";

  for (const std::string& architecture : architectures_of(GetParam())) {
    const Json bare = {{"model_type", GetParam()}, {"architectures", {architecture}}};
    const std::string refused = refusal(bare);
    const Reading expected = refused.empty() ? read(bare) : Reading();

    Json all = defaults;
    all.update(bare);
    const Settings settings(all, "config.json");
    EXPECT_EQ(refusal(all), refused) << architecture;
    EXPECT_TRUE(!refused.empty() || read(settings) == expected) << architecture;
    for (const FileReport::Left& left : judge(settings).left)
      EXPECT_NE(left.fate, FileReport::Fate::kWarned)
          << architecture << ": " << left.key << " is neither read nor known";

    for (const auto& [key, value] : defaults.items()) {
      Json one = bare;
      if (bare.contains(key)) continue;
      one[key] = value;
      EXPECT_EQ(refusal(one), refused) << architecture << ": " << key << ": " << value;
      EXPECT_TRUE(!refusal(one).empty() || read(one) == expected)
          << architecture << ": " << key << ": " << value;
    }
  }
}

Json changed(const Json& value) {
  if (value.is_boolean()) return !value.get<bool>();
  if (value.is_number_integer()) return value.get<std::int64_t>() == 1 ? 2 : 1;
  if (value.is_number()) return value.get<double>() / 2;
  if (value.is_string()) return value == "relu" ? "silu" : "relu";
  return Json();
}

/// Another value than the default changes the model, or is refused, unless the key is on the list
/// of those without effect.
TEST_P(ConfigDefaults, OtherValuesChangeTheModelOrAreRefused) {
  Json defaults;
  if (!load(defaults)) GTEST_SKIP() << "golden/config_defaults is not there; set QUELL_DATA";

  for (const auto& [key, value] : defaults.items()) {
    const Json other = changed(value);
    if (other.is_null() || key == "model_type") continue;

    bool matters = false;
    FileReport::Fate fate = FileReport::Fate::kWarned;
    for (const std::string& architecture : architectures_of(GetParam())) {
      Json config = {{"model_type", GetParam()}, {"architectures", {architecture}}};
      if (key == "max_window_layers")
        config["use_sliding_window"] = true;  // it counts with windows alone
      if (key == "depth_divisible_by" || key == "min_depth" || key == "finegrained_output")
        config["depth_multiplier"] = 0.1;  // they count where channels become fewer
      const std::string before = refusal(config);
      const Reading reading = before.empty() ? read(config) : Reading();
      config[key] = other;
      const Settings settings(config, "config.json");
      try {
        matters |= !(read(settings) == reading);
        const FileReport report = judge(settings);
        for (const auto& left : report.left)
          if (left.key == key) fate = left.fate;
      } catch (const Error&) {
        matters = true;
      }
    }
    EXPECT_TRUE(matters || fate == FileReport::Fate::kNoEffect)
        << key << ": " << other << " changes nothing and is not known";
  }
}

INSTANTIATE_TEST_SUITE_P(All, ConfigDefaults, ::testing::ValuesIn(model_types_of_transformers()),
                         [](const auto& info) {
                           std::string name = info.param;
                           for (char& c : name) c = c == '-' ? '_' : c;
                           return name;
                         });

TEST(ConfigKeys, NullIsNotAMissingKey) {
  Json mistral = small("mistral");
  EXPECT_EQ(read(mistral).attention[1].sliding_window, 4096);
  mistral["sliding_window"] = nullptr;
  EXPECT_EQ(read(mistral).attention[1].sliding_window, 0);

  Json gemma = small("gemma2");
  EXPECT_EQ(read(gemma).attention[0].soft_cap, 50.0F);
  gemma["attn_logit_softcapping"] = nullptr;
  EXPECT_EQ(read(gemma).attention[0].soft_cap, 0.0F);

  Json llama = small("llama");
  llama["hidden_size"] = nullptr;
  EXPECT_NE(refusal(llama).find("\"hidden_size\""), std::string::npos) << refusal(llama);
}

TEST(ConfigKeys, GeneralNamesAreTheOwnOnes) {
  for (const std::vector<std::pair<const char*, const char*>>& names :
       std::vector<std::vector<std::pair<const char*, const char*>>>{
           {{"n_embd", "hidden_size"},
            {"n_head", "num_attention_heads"},
            {"n_layer", "num_hidden_layers"}}}) {
    const Json own = small("gpt2");
    Json general = own;
    for (const auto& [from, to] : names) {
      general[to] = general[from];
      general.erase(from);
    }
    EXPECT_TRUE(read(own) == read(general));

    Json both = own;  // the general name wins
    both["hidden_size"] = 32;
    EXPECT_EQ(read(both).spec.hidden_size, 32);
    EXPECT_EQ(refusal(both), "");
  }
}

TEST(ConfigKeys, HeadDimCountsOnlyWhereTheFamilyHasIt) {
  for (const char* type : {"llama", "mistral", "qwen3", "gemma2", "phi"}) {
    Json config = small(type);
    config["head_dim"] = 12;
    EXPECT_EQ(read(config).attention[0].head_dim, 12) << type;
  }
  for (const char* type : {"bert", "gpt2", "opt", "bloom"}) {
    Json config = small(type);
    config["head_dim"] = 12;
    EXPECT_EQ(read(config).attention[0].head_dim,
              read(config).spec.hidden_size / read(config).attention[0].num_heads)
        << type;
  }
}

TEST(ConfigKeys, WindowsFollowLayerTypes) {
  const auto windows = [](const Json& config) {
    std::vector<std::int64_t> out;
    for (const AttentionSpec& attention : read(config).attention)
      out.push_back(attention.sliding_window);
    return out;
  };
  using Windows = std::vector<std::int64_t>;
  for (const char* type : {"qwen2", "qwen3"}) {
    Json config = small(type);
    config.update({{"sliding_window", 4}, {"max_window_layers", 1}});
    EXPECT_EQ(windows(config), (Windows{0, 0})) << "not switched on";
    config["use_sliding_window"] = true;
    EXPECT_EQ(windows(config), (Windows{0, 4}));
    config["layer_types"] = {"sliding_attention", "full_attention"};
    EXPECT_EQ(windows(config), (Windows{4, 0}));
    config["layer_types"] = {"chunked_attention", "full_attention"};
    EXPECT_NE(refusal(config).find("chunked_attention"), std::string::npos);
    config["layer_types"] = {"sliding_attention", "full_attention"};
    config["use_sliding_window"] = false;
    EXPECT_NE(refusal(config).find("sliding_window"), std::string::npos)
        << "a window without a width";
  }

  Json gemma = small("gemma2");
  EXPECT_EQ(windows(gemma), (Windows{4096, 0}));
  Json mistral = small("mistral");
  mistral["layer_types"] = {"full_attention", "sliding_attention"};
  EXPECT_NE(refusal(mistral).find("layer_types"), std::string::npos)
      << "the reference ignores the list";
}

TEST(ConfigKeys, ActivationsAreKnownByNameOrRefused) {
  for (const char* name :
       {"gelu", "gelu_python", "gelu_new", "gelu_fast", "gelu_accurate", "gelu_pytorch_tanh",
        "gelu_python_tanh", "relu", "silu", "swish", "tanh", "relu2"}) {
    Json config = small("bert");
    config["hidden_act"] = name;
    EXPECT_EQ(refusal(config), "") << name;
  }
  for (const char* name :
       {"quick_gelu", "relu6", "mish", "gelu_10", "sigmoid", "laplace", "gelu_tanh", "nonsense"}) {
    Json config = small("bert");
    config["hidden_act"] = name;
    EXPECT_NE(refusal(config).find(name), std::string::npos) << name;
  }
}

TEST(ConfigKeys, KeysThatChangeResultsAreRefusedByName) {
  const auto expect_refused = [](const char* type, const Json& keys, bool is_refused) {
    Json config = small(type);
    config.update(keys);
    const std::string message = refusal(config);
    EXPECT_EQ(message.find("\"" + (keys.size() == 1 ? keys.begin().key() : "slow_but_exact") +
                           "\"") != std::string::npos,
              is_refused)
        << type << ' ' << keys << ": " << message;
  };
  expect_refused("bert", {{"is_decoder", true}}, true);
  expect_refused("bert", {{"position_embedding_type", "relative_key"}}, true);
  expect_refused("bert", {{"position_embedding_type", "absolute"}}, false);
  expect_refused("roberta", {{"add_cross_attention", true}}, true);
  expect_refused("gpt_neox", {{"is_decoder", true}}, false);
  expect_refused("gemma2", {{"use_bidirectional_attention", true}}, true);
  expect_refused("bloom", {{"slow_but_exact", true}}, false);
  expect_refused("bloom", {{"slow_but_exact", true}, {"pretraining_tp", 2}}, true);
  expect_refused("bloom", {{"apply_residual_connection_post_layernorm", true}}, true);
  expect_refused("phi", {{"qk_layernorm", true}}, true);
  expect_refused("bart", {{"normalize_before", true}}, true);
  expect_refused("bart", {{"normalize_before", false}}, false);
  expect_refused("llama", {{"per_layer_config", {{"0", {{"head_dim", 4}}}}}}, true);
  expect_refused("deberta-v2", {{"conv_kernel_size", 3}}, true);
}

TEST(ConfigKeys, AcceptedKeysGoOn) {
  Json config = small("bert");
  config["is_decoder"] = true;
  const AcceptedKeys accepted(std::vector<std::string>{"is_decoder", "elsewhere"});
  const Settings settings(config, "config.json", accepted);
  read(settings);
  const FileReport report = judge(settings);
  EXPECT_EQ(accepted.met(), std::vector<std::string>{"is_decoder"});
  for (const FileReport::Left& left : report.left)
    EXPECT_EQ(left.fate == FileReport::Fate::kAccepted, left.key == "is_decoder") << left.key;
}

TEST(ConfigKeys, UnknownKeysAreWarnedAboutOnce) {
  std::vector<std::string> warnings;
  set_log_sink([&](LogLevel level, const std::string& message) {
    if (level == LogLevel::kWarning) warnings.push_back(message);
  });
  Json config = small("llama");
  config["frobnication"] = 3;
  EXPECT_EQ(refusal(config), "");
  EXPECT_EQ(refusal(config), "");
  set_log_sink({});
  ASSERT_EQ(warnings.size(), 1U);
  EXPECT_NE(warnings[0].find("\"frobnication\" (3)"), std::string::npos) << warnings[0];
}

/// Frequencies of a head of 8 dimensions and their amplitude, as transformers 5.24 computes them.
struct RotaryCase {
  const char* name;
  const char* parameters;
  std::vector<float> frequencies;
  float amplitude;
};

TEST(RotaryPositions, EveryTypeGivesTheFrequenciesOfTheReference) {
  const RotaryCase cases[] = {
#include "tests/support/rotary_cases.inc"
  };
  for (const RotaryCase& c : cases) {
    Json newer = small("llama");
    newer.update({{"max_position_embeddings", 64}, {"rope_parameters", Json::parse(c.parameters)}});

    Json older = small("llama");  // as transformers 4 writes it
    Json scaling = Json::parse(c.parameters);
    scaling["type"] = scaling["rope_type"];
    scaling.erase("rope_type");
    older.update({{"max_position_embeddings", 64},
                  {"rope_theta", scaling["rope_theta"]},
                  {"rope_scaling", scaling}});

    for (const Json& config : {newer, older}) {
      const AttentionSpec a = read(config).attention[0];
      ASSERT_EQ(a.rotary_inv_freq.size(), c.frequencies.size()) << c.name;
      for (std::size_t i = 0; i < c.frequencies.size(); ++i)
        EXPECT_NEAR(a.rotary_inv_freq[i], c.frequencies[i], 2e-6F * c.frequencies[i])
            << c.name << " " << i;
      EXPECT_NEAR(a.rotary_amplitude, c.amplitude, 1e-6F) << c.name;
    }
  }
}

TEST(RotaryPositions, WhatChangesWithTheLengthOrIsUnknownIsRefused) {
  const auto with = [](const char* type, const char* parameters) {
    Json config = small(type);
    config.update({{"max_position_embeddings", 64}, {"rope_parameters", Json::parse(parameters)}});
    return refusal(config);
  };
  EXPECT_NE(
      with("llama",
           R"({"rope_type": "longrope", "short_factor": [1, 1, 1, 1], "long_factor": [2, 2, 2, 2],
                              "original_max_position_embeddings": 16})")
          .find("longrope"),
      std::string::npos);
  EXPECT_NE(with("llama", R"({"rope_type": "su", "factor": 2})").find("\"su\""), std::string::npos);
  EXPECT_NE(with("llama", R"({"rope_type": "linear"})").find("factor"), std::string::npos);
  EXPECT_NE(with("llama", R"({"full_attention": {"rope_type": "default"}})").find("full_attention"),
            std::string::npos);
  EXPECT_NE(with("llama", R"({"rope_type": "default", "partial_rotary_factor": 0.5})")
                .find("partial_rotary_factor"),
            std::string::npos);
  EXPECT_EQ(with("phi", R"({"rope_type": "default", "partial_rotary_factor": 0.5})"), "");

  Json neox = small("gpt_neox");
  neox["rope_theta"] = 500;  // its class reads rotary_emb_base
  EXPECT_NE(refusal(neox).find("rope_theta"), std::string::npos);
}

}  // namespace
}  // namespace quell
