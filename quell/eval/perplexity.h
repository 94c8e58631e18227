// Windows of running text, by protocol (docs/evaluation.md).
#pragma once

#include <string>
#include <vector>

#include "quell/model/model.h"
#include "quell/text/data/dataset.h"

namespace quell {

struct PerplexityOptions {
  std::string protocol;  ///< gptq, windows (default), llama.cpp or lm-eval
  std::int64_t window =
      0;  ///< tokens; 0: 512 for llama.cpp, else 2048, at most the model's context
  std::int64_t skip = 0, limit = 0;  ///< windows; documents for lm-eval
};

struct PerplexitySet {
  std::vector<TokenSequence> sequences;  ///< labels on the scored tokens
  double words = 0, bytes = 0;           ///< lm-eval: of the documents
};

/// Throws Error(kUsage | kInvalidInput).
PerplexitySet make_perplexity_set(const PerplexityOptions& options, const Dataset& data,
                                  const Tokenizer* tokenizer, const Model& model);

/// Undoes WikiText's tokenization ("@-@", spaces before punctuation), as lm-evaluation-harness
/// does.
std::string detokenize_wikitext(std::string text);
/// The documents of WikiText: a heading "= Title =" opens one.
std::vector<std::string> split_wikitext(const std::string& text);

}  // namespace quell
