// Token ids, pairs and decoded text against huggingface/tokenizers, on every recorded line.
#include <gtest/gtest.h>

#include <fstream>
#include <set>

#include "quell/base/error.h"
#include "quell/io/json.h"
#include "quell/text/tokenizer/tokenizer.h"
#include "tests/support/support.h"

namespace quell {
namespace {
namespace fs = std::filesystem;

/// The folder itself, or links to the files that lie elsewhere (files.json).
void gather(const fs::path& folder, const fs::path& scratch) {
  const auto link = [&](const fs::path& from) {
    if (fs::exists(from)) fs::create_symlink(fs::absolute(from), scratch / from.filename());
  };
  const std::set<std::string> recorded = {"files.json", "lines.jsonl", "pairs.jsonl",
                                          "pretokens.jsonl"};
  for (const auto& entry : fs::directory_iterator(folder))
    if (entry.is_regular_file() && !recorded.contains(entry.path().filename())) link(entry.path());
  if (!fs::exists(folder / "files.json")) return;
  const Json files = read_json_file(folder / "files.json");
  for (const auto& [name, path] : files.items()) {
    if (!path.is_string() || fs::exists(scratch / name)) continue;
    const fs::path file = folder / path.get<std::string>();
    if (fs::exists(file)) fs::create_symlink(fs::absolute(file), scratch / name);
  }
}

std::vector<Json> read_lines(const fs::path& path) {
  std::vector<Json> rows;
  std::ifstream in(path);
  for (std::string line; std::getline(in, line);)
    if (!line.empty()) rows.push_back(parse_json(line, path.string()));
  return rows;
}

std::vector<CharSpan> spans(const Json& pairs) {
  std::vector<CharSpan> out;
  for (const Json& p : pairs) out.push_back({p[0].get<std::int32_t>(), p[1].get<std::int32_t>()});
  return out;
}

std::vector<std::int32_t> sequence_ids(const Json& list) {
  std::vector<std::int32_t> out;
  for (const Json& id : list) out.push_back(id.is_null() ? -1 : id.get<std::int32_t>());
  return out;
}

void check_lines(const Tokenizer& tokenizer, const fs::path& folder) {
  const std::vector<Json> rows = read_lines(folder / "lines.jsonl");
  ASSERT_GE(rows.size(), 270U) << folder / "lines.jsonl";
  for (const Json& row : rows) {
    const auto text = row["text"].get<std::string>();
    const auto ids = row["ids"].get<std::vector<std::int32_t>>();
    EXPECT_EQ(tokenizer.encode(text).ids, ids) << text;
    EXPECT_EQ(tokenizer.encode(text, {.add_special_tokens = false}).ids,
              row["ids_plain"].get<std::vector<std::int32_t>>())
        << text;
    EXPECT_EQ(tokenizer.decode(ids), row["decoded"].get<std::string>()) << text;
    const Encoding details = tokenizer.encode(text, {.details = true});
    EXPECT_EQ(details.ids, ids) << text;
    EXPECT_EQ(details.tokens, row["tokens"].get<std::vector<std::string>>()) << text;
    EXPECT_EQ(details.offsets, spans(row["offsets"])) << text;
  }
  for (const Json& row : read_lines(folder / "pairs.jsonl")) {
    const Encoding e = tokenizer.encode_pair(row["text"].get<std::string>(),
                                             row["pair"].get<std::string>(), {.details = true});
    EXPECT_EQ(e.ids, row["ids"].get<std::vector<std::int32_t>>()) << row["text"];
    EXPECT_EQ(e.type_ids, row["type_ids"].get<std::vector<std::int32_t>>()) << row["text"];
    EXPECT_EQ(e.special_tokens_mask, row["special_tokens_mask"].get<std::vector<std::int32_t>>())
        << row["text"];
    EXPECT_EQ(e.sequence_ids, sequence_ids(row["sequence_ids"])) << row["text"];
    EXPECT_EQ(e.offsets, spans(row["offsets"])) << row["text"];
  }
}

class GoldenTokenizer : public ::testing::TestWithParam<std::string> {};

TEST_P(GoldenTokenizer, EqualsReferenceOnEveryLine) {
  QUELL_NEED_DATA(folder, "golden/tokenizers/" + GetParam());
  const quell::testing::ScratchDir scratch;
  gather(folder, scratch.path());
  if (fs::is_empty(scratch.path()) && fs::exists(folder / "files.json"))
    GTEST_SKIP() << "the vocabulary of " << GetParam() << ", which files.json names, is not there";
  check_lines(Tokenizer::open(scratch.path()), folder);
}

TEST(GoldenTokenizerFiles, VocabularyFilesGiveTheSame) {
  QUELL_NEED_DATA(folder, "golden/tokenizers/bert-cased");  // the one that comes in both forms
  const quell::testing::ScratchDir scratch;
  for (const char* name : {"vocab.txt", "tokenizer_config.json"})
    fs::create_symlink(fs::absolute(folder / name), scratch / name);
  check_lines(Tokenizer::open(scratch.path()), folder);
}

INSTANTIATE_TEST_SUITE_P(All, GoldenTokenizer,
                         ::testing::ValuesIn(quell::testing::case_folders("golden/tokenizers")),
                         [](const auto& info) { return quell::testing::test_name(info.param); });

TEST(GoldenTokenizerRefusal, UnknownComponentsAreNamed) {
  for (const char* stage : {"normalizer", "pre_tokenizer", "model", "post_processor", "decoder"}) {
    Json json = {{"model", {{"type", "WordLevel"}, {"vocab", {{"a", 0}}}, {"unk_token", "a"}}}};
    json[stage] = {{"type", "Quux"}};
    try {
      Tokenizer::from_json(json, "tokenizer.json");
      ADD_FAILURE() << stage << " was read";
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), ErrorCode::kUnsupported);
      EXPECT_NE(std::string(e.what()).find(std::string(stage) + " \"Quux\""), std::string::npos)
          << e.what();
    }
  }
}

/// The stories that the model was evaluated on came from this very SentencePiece model. Line breaks
/// are outside its vocabulary.
TEST(SentencePieceModel, EncodesStoriesToTheirIds) {
  QUELL_NEED_DATA(model, "models/babyllama-tok105");
  const Tokenizer t = Tokenizer::open(model);
  std::ifstream in(model / "tinystories_eval_ids.u16", std::ios::binary);
  std::vector<std::uint16_t> stream(60000);
  in.read(reinterpret_cast<char*>(stream.data()), static_cast<std::streamsize>(2 * stream.size()));
  const auto next = [&](auto from) {
    return std::find(from, stream.end(), t.id_of("<s>").value());
  };
  int stories = 0;
  for (auto begin = next(stream.begin()); next(begin + 1) != stream.end();
       begin = next(begin + 1), ++stories) {
    const std::vector<std::int32_t> ids(begin, next(begin + 1));
    std::string text;
    for (auto line = ids.begin(); line != ids.end();) {
      const auto end = std::find(line, ids.end(), t.id_of("<unk>").value());
      text += t.decode(std::span(line, end));
      if (end != ids.end()) text += "\n";
      line = end == ids.end() ? end : end + 1;
    }
    // The stream was made without collapsing runs of spaces, which the model's file asks for.
    if (text.find("  ") == std::string::npos) {
      EXPECT_EQ(t.encode(text).ids, ids) << text;
    }
  }
  EXPECT_GT(stories, 50);
}

TEST(Truncation, KeepsSpecialTokensAndCutsTheLongerOfAPair) {
  QUELL_NEED_DATA(dir, "golden/tokenizers/bert-cased");
  const Tokenizer t = Tokenizer::open(dir);
  const Encoding full = t.encode("one two three four five six seven");
  const Encoding cut = t.encode("one two three four five six seven", {.max_length = 5});
  ASSERT_EQ(cut.ids.size(), 5U);
  EXPECT_EQ(cut.ids.front(), full.ids.front());
  EXPECT_EQ(cut.ids.back(), full.ids.back());
  const Encoding pair = t.encode_pair("one two three four five six seven", "a", {.max_length = 8});
  EXPECT_EQ(pair.ids.size(), 8U);
  EXPECT_EQ(std::count(pair.type_ids.begin(), pair.type_ids.end(), 1), 2);
  EXPECT_THROW(t.encode("one", {.max_length = 2}), Error);
}

}  // namespace
}  // namespace quell
