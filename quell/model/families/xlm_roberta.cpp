// XLM-RoBERTa (Conneau et al. 2020): RoBERTa with a multilingual vocabulary. Many rerankers and
// embedding models are of this family.
#include "quell/model/bert_like.h"

namespace quell {
namespace {

ModelSpec read_spec(const Settings& config) { return roberta_spec(config, "XLMRoberta", 30522); }

}  // namespace

extern const Family k_xlm_roberta;
const Family k_xlm_roberta = {
    "xlm-roberta",
    "roberta.",
    read_spec,
    roberta_tensors,
    "XLM-RoBERTa, multilingual E5 and BGE",
    "XLMRobertaModel XLMRobertaForMaskedLM XLMRobertaForSequenceClassification "
    "XLMRobertaForTokenClassification XLMRobertaForQuestionAnswering"};

}  // namespace quell
