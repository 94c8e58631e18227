#include "quell/eval/perplexity.h"

#include <algorithm>

#include "quell/base/error.h"
#include "quell/text/python_text.h"
#include "quell/text/tokenizer/regex.h"

namespace quell {
namespace {

using Ids = std::vector<std::int32_t>;

Ids token_stream(const Dataset& data, const Tokenizer* tokenizer) {
  if (!data.stream.empty()) return data.stream;
  Ids ids;
  if (!data.raw_text.empty()) {
    require(tokenizer, ErrorCode::kInvalidInput, data.source,
            ": holds text, and the model directory has no tokenizer");
    return tokenizer->encode(data.raw_text).ids;
  }
  for (const TokenSequence& s : tokenize_examples(data, tokenizer, PairMode::kSeparate, 0))
    ids.insert(ids.end(), s.ids.begin(), s.ids.end());
  return ids;
}

/// Inputs [begin, end) of `ids`; the targets of the last `scored` of them.
TokenSequence window_of(const Ids& ids, std::int64_t begin, std::int64_t end, std::int64_t scored) {
  TokenSequence s;
  s.ids.assign(ids.begin() + begin, ids.begin() + end);
  s.labels.assign(s.ids.size(), -100);
  for (std::int64_t i = end - scored; i < end; ++i)
    s.labels[static_cast<std::size_t>(i - begin)] = ids[static_cast<std::size_t>(i + 1)];
  return s;
}

/// Windows side by side. gptq: the tokens inside a window are targets; windows: also the first of
/// the next; llama.cpp: those of the second half, and the first input is the begin token.
void cut_windows(const PerplexityOptions& options, const Ids& ids, const Tokenizer* tokenizer,
                 std::int64_t window, PerplexitySet& set) {
  const bool llama = options.protocol == "llama.cpp",
             shifted = options.protocol.empty() || options.protocol == "windows";
  const auto total = static_cast<std::int64_t>(ids.size());
  std::optional<std::int32_t> bos;
  if (llama && tokenizer) {
    const Ids empty = tokenizer->encode("").ids;
    if (!empty.empty()) bos = empty.front();
  }
  for (std::int64_t begin = options.skip * window; begin + window + (shifted ? 1 : 0) <= total;
       begin += window) {
    if (options.limit > 0 && static_cast<std::int64_t>(set.sequences.size()) == options.limit)
      break;
    const std::int64_t end = begin + window - (shifted ? 0 : 1);
    set.sequences.push_back(
        window_of(ids, begin, end, llama ? end - begin - window / 2 : end - begin));
    if (bos) set.sequences.back().ids.front() = *bos;
  }
}

/// Every token of a document is scored once; windows after the first see as much as fits before
/// their targets.
void add_document(const Ids& tokens, std::int32_t prefix, std::int64_t window, PerplexitySet& set) {
  Ids ids = {prefix};
  ids.insert(ids.end(), tokens.begin(), tokens.end());
  const auto total = static_cast<std::int64_t>(tokens.size());
  for (std::int64_t done = 0; done < total;) {
    const std::int64_t scored = std::min(window, total - done), end = done + scored;
    const std::int64_t begin = done == 0 ? 0 : std::max<std::int64_t>(0, end - window);
    set.sequences.push_back(window_of(ids, begin, end, scored));
    done = end;
  }
}

void cut_documents(const PerplexityOptions& options, const Dataset& data,
                   const Tokenizer* tokenizer, const Model& model, std::int64_t window,
                   PerplexitySet& set) {
  require(tokenizer && !data.raw_text.empty(), ErrorCode::kUsage, data.source,
          ": --protocol lm-eval needs running text (.txt) and a tokenizer");
  const Ids empty = tokenizer->encode("").ids;
  const std::int32_t prefix = !empty.empty()                      ? empty.front()
                              : !model.spec.eos_token_ids.empty() ? model.spec.eos_token_ids.front()
                                                                  : model.spec.pad_token_id;
  const std::vector<std::string> documents = split_wikitext(data.raw_text);
  const auto begin = static_cast<std::size_t>(options.skip);
  for (std::size_t i = begin;
       i < documents.size() &&
       (options.limit == 0 || i < begin + static_cast<std::size_t>(options.limit));
       ++i) {
    const std::string& text = documents[i];
    bool space = false;
    set.words += 1;  // re.split counts the pieces around runs of white space
    for (const char32_t c : unicode::decode(text)) {
      const bool now = python::is_space(c);
      set.words += now && !space ? 1 : 0;
      space = now;
    }
    set.bytes += static_cast<double>(text.size());
    add_document(tokenizer->encode(detokenize_wikitext(text), {.add_special_tokens = false}).ids,
                 prefix, window, set);
  }
}

}  // namespace

std::string detokenize_wikitext(std::string text) {
  const auto replace = [&](std::string_view from, std::string_view to) {
    for (std::size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size())
      text.replace(at, from.size(), to);
  };
  const auto rewrite = [&](const char* pattern, auto make) {
    const Regex regex(pattern);
    const std::u32string in = unicode::decode(text);
    std::u32string out;
    std::size_t done = 0;
    regex.for_each_match(in, [&](CharRange r) {
      out += in.substr(done, r.begin - done) + make(in.substr(r.begin, r.size()));
      done = r.end;
    });
    text = unicode::encode(out + in.substr(done));
  };
  const auto trimmed = [](std::u32string_view s) {
    while (!s.empty() && unicode::is(s.front(), unicode::kWhitespace)) s.remove_prefix(1);
    while (!s.empty() && unicode::is(s.back(), unicode::kWhitespace)) s.remove_suffix(1);
    return std::u32string(s);
  };
  const auto inside = [&](const std::u32string& m) {
    return m.substr(0, 1) + trimmed(std::u32string_view(m).substr(1, m.size() - 2)) +
           m.substr(m.size() - 1);
  };
  replace("s '", "s'");
  for (const auto& [from, to] : {std::pair(" @-@ ", "-"),
                                 {" @,@ ", ","},
                                 {" @.@ ", "."},
                                 {" : ", ": "},
                                 {" ; ", "; "},
                                 {" . ", ". "},
                                 {" ! ", "! "},
                                 {" ? ", "? "},
                                 {" , ", ", "}})
    replace(from, to);
  for (const char* pattern : {R"(\(\s*([^\)]*?)\s*\))", R"(\[\s*([^\]]*?)\s*\])",
                              R"({\s*([^}]*?)\s*})", R"("\s*([^"]*?)\s*")", R"('\s*([^']*?)\s*')"})
    rewrite(pattern, inside);
  for (const auto& [from, to] : {std::pair("= = = =", "===="), {"= = =", "==="}, {"= =", "=="}})
    replace(from, to);
  replace(" \u00b0 ", "\u00b0");
  for (const auto& [from, to] :
       {std::pair(" \n", "\n"), {"\n ", "\n"}, {" N ", " 1 "}, {" 's", "'s"}})
    replace(from, to);
  return text;
}

std::vector<std::string> split_wikitext(const std::string& text) {
  std::vector<std::string> documents(1);
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size() - 1) + 1;
    const std::string_view line = std::string_view(text).substr(at, end - at);
    const bool heading = line.starts_with(" = ") && !line.starts_with(" = =") &&
                         line.find(" = ", 2) != std::string_view::npos;
    if (heading && documents.back().find_first_not_of(" \n") != std::string::npos)
      documents.emplace_back();
    documents.back() += line;
    at = end;
  }
  return documents;
}

PerplexitySet make_perplexity_set(const PerplexityOptions& options, const Dataset& data,
                                  const Tokenizer* tokenizer, const Model& model) {
  static const std::vector<std::string> kProtocols = {"", "gptq", "windows", "llama.cpp",
                                                      "lm-eval"};
  require(std::count(kProtocols.begin(), kProtocols.end(), options.protocol) > 0, ErrorCode::kUsage,
          "--protocol ", options.protocol, " is unknown; use gptq, windows, llama.cpp or lm-eval");
  const std::int64_t context = model.spec.max_position_embeddings;
  const std::int64_t usual =
      std::min<std::int64_t>(options.protocol == "llama.cpp" ? 512 : 2048, context);
  const std::int64_t window = options.window > 0 ? options.window : usual;
  require(window >= 2 && window <= context, ErrorCode::kUsage, "--window ", window, ": use 2 to ",
          context, ", the model's context");
  PerplexitySet set;
  if (options.protocol == "lm-eval") {
    cut_documents(options, data, tokenizer, model, window, set);
    require(!set.sequences.empty(), ErrorCode::kUsage, data.source,
            ": no documents left to evaluate; lower --skip");
  } else {
    const Ids ids = token_stream(data, tokenizer);
    cut_windows(options, ids, tokenizer, window, set);
    const std::int64_t windows = std::ssize(ids) / window;
    require(options.skip == 0 || windows == 0 || !set.sequences.empty(), ErrorCode::kUsage,
            "--skip ", options.skip, " leaves nothing of the ", windows, " windows of ", window,
            " tokens in ", data.source);
    require(!set.sequences.empty(), ErrorCode::kInvalidInput, data.source, ": ", ids.size(),
            " tokens are fewer than one window of ", window,
            "; give more text, or a shorter window (--window, in training --max-seq-length)");
  }
  return set;
}

}  // namespace quell
