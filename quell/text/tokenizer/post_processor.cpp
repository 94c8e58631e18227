// Post-processors of tokenizer.json: which special tokens surround the text, and their type ids.
#include "quell/base/error.h"
#include "quell/io/json.h"
#include "quell/text/tokenizer/components.h"

namespace quell {
namespace {

std::vector<PostProcessor::Piece> read_template(const Json& pieces, const Json& specials) {
  require(pieces.is_array(), ErrorCode::kInvalidInput, "tokenizer: template is not an array");
  std::vector<PostProcessor::Piece> out;
  for (const Json& piece : pieces) {
    const Json& sequence = member(piece, "Sequence");
    const Json& special = member(piece, "SpecialToken");
    const Json& used = sequence.is_null() ? special : sequence;
    PostProcessor::Piece p{-1, static_cast<std::int32_t>(json_int(used, "type_id", 0, 255, 0)), {}};
    const std::string id = json_string(used, "id", "");
    if (!sequence.is_null()) {
      require(id == "A" || id == "B", ErrorCode::kInvalidInput, "tokenizer: template sequence \"",
              id, "\" is neither A nor B");
      p.sequence = id == "A" ? 0 : 1;
    } else {
      const Json& ids = member(member(specials, id.c_str()), "ids");
      require(ids.is_array(), ErrorCode::kInvalidInput,
              "tokenizer: template needs special token \"", id, "\", which special_tokens lacks");
      for (const Json& value : ids) {
        require(value.is_number_integer(), ErrorCode::kInvalidInput,
                "tokenizer: special token ids must be integers");
        p.ids.push_back(value.get<std::int32_t>());
      }
    }
    out.push_back(std::move(p));
  }
  return out;
}

std::int32_t pair_id(const Json& token_and_id) {
  require(
      token_and_id.is_array() && token_and_id.size() == 2 && token_and_id[1].is_number_integer(),
      ErrorCode::kInvalidInput, "tokenizer: BertProcessing and RobertaProcessing need [token, id]");
  return token_and_id[1].get<std::int32_t>();
}

PostProcessor read_bert(const Settings& json) {
  const std::int32_t cls = pair_id(json.value("cls")), sep = pair_id(json.value("sep"));
  return {{{-1, 0, {cls}}, {0, 0, {}}, {-1, 0, {sep}}},
          {{-1, 0, {cls}}, {0, 0, {}}, {-1, 0, {sep}}, {1, 1, {}}, {-1, 1, {sep}}}};
}

PostProcessor read_roberta(const Settings& json) {
  const std::int32_t cls = pair_id(json.value("cls")), sep = pair_id(json.value("sep"));
  return {{{-1, 0, {cls}}, {0, 0, {}}, {-1, 0, {sep}}},
          {{-1, 0, {cls}}, {0, 0, {}}, {-1, 0, {sep, sep}}, {1, 0, {}}, {-1, 0, {sep}}},
          json_bool(json, "trim_offsets", true),
          json_bool(json, "add_prefix_space", true)};
}

/// The stages of a Sequence that Quell reads do not depend on each other: one trims offsets, one
/// adds tokens.
PostProcessor read_sequence(const Settings& json) {
  require(json.has("processors"), ErrorCode::kInvalidInput,
          "tokenizer: post_processor Sequence without \"processors\"");
  PostProcessor all;
  for (const Settings& stage : json.sections("processors")) {
    PostProcessor p = make_post_processor(stage);
    if (!p.single.empty() || !p.pair.empty()) {
      if (!all.single.empty() || !all.pair.empty())
        refuse_component("post_processor", "Sequence with two templates");
      all.single = std::move(p.single);
      all.pair = std::move(p.pair);
    }
    if (p.trim_offsets) {
      all.trim_offsets = true;
      all.add_prefix_space = p.add_prefix_space;
    }
  }
  return all;
}

PostProcessor read_byte_level(const Settings& json) {
  return {{}, {}, json_bool(json, "trim_offsets", true), json_bool(json, "add_prefix_space", true)};
}

PostProcessor read_templates(const Settings& json) {
  const Json& specials = json.value("special_tokens");
  return {read_template(json.value("single"), specials),
          read_template(json.value("pair"), specials)};
}

struct Entry {
  const char* type;
  PostProcessor (*read)(const Settings&);
};
constexpr Entry kPostProcessors[] = {{"BertProcessing", read_bert},
                                     {"RobertaProcessing", read_roberta},
                                     {"TemplateProcessing", read_templates},
                                     {"ByteLevel", read_byte_level},
                                     {"Sequence", read_sequence}};

}  // namespace

std::vector<std::string> post_processor_types() {
  std::vector<std::string> types;
  for (const Entry& entry : kPostProcessors) types.emplace_back(entry.type);
  return types;
}

PostProcessor make_post_processor(const Settings& json) {
  const std::string type = type_of(json);
  for (const Entry& entry : kPostProcessors)
    if (type == entry.type) return entry.read(json);
  refuse_component("post_processor", type);
}

}  // namespace quell
