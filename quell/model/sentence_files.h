// The files of sentence-transformers beside an encoder: modules.json, the modules' folders,
// sentence_bert_config.json and config_sentence_transformers.json.
#pragma once

#include "quell/graph/ops.h"
#include "quell/io/model_directory.h"
#include "quell/model/model_spec.h"
#include "quell/model/sentence_pipeline.h"

namespace quell {

/// How texts become tokens, beside the tokenizer itself.
struct TextSettings {
  std::int64_t max_length =
      0;  ///< tokens at most by the files, special ones included; 0: they do not say
  bool lower_case = false;            ///< in front of everything that the tokenizer does
  std::optional<bool> truncate_left;  ///< texts that are too long lose their beginning; not set:
                                      ///< tokenizer.json says
};

struct SentenceFiles {
  SentencePipeline pipeline;
  TextSettings text;
  bool has_modules = false;  ///< there is a modules.json
};

/// Reads all of them. `pipeline` is empty where the model gives no sentence embeddings. Throws
/// Error(kIo | kInvalidInput | kUnsupported): modules and settings that Quell does not have are
/// refused by name.
SentenceFiles read_sentence_files(const ModelDirectory& directory, const ModelSpec& spec,
                                  const Graph& graph);

/// What sentence-transformers puts behind a model that has no modules.json: the mean over tokens,
/// or the last token where the architecture is a causal language model's.
SentencePipeline default_pipeline(const Json& config);

}  // namespace quell
