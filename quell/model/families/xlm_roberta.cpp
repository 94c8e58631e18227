// XLM-RoBERTa (Conneau et al. 2020): RoBERTa with a multilingual vocabulary. Many rerankers and
// embedding models are of this family.
#include "quell/model/bert_like.h"

namespace quell {
namespace {

void build(ModelBuilder& g, const Config& c) { build_roberta(g, c, "XLMRoberta", 30522); }

}  // namespace

extern const Family k_xlm_roberta;
const Family k_xlm_roberta = {
    "xlm-roberta", "roberta.", build, "XLM-RoBERTa, multilingual E5 and BGE",
    "XLMRobertaModel XLMRobertaForMaskedLM XLMRobertaForSequenceClassification "
    "XLMRobertaForTokenClassification XLMRobertaForQuestionAnswering"};

}  // namespace quell
