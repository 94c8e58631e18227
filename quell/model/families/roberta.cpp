// RoBERTa (Liu et al. 2019): BERT with positions that skip the padding token, and another
// classification head.
#include "quell/model/bert_like.h"

namespace quell {
namespace {

ModelSpec read_spec(const Settings& config) { return roberta_spec(config, "Roberta", 50265); }

}  // namespace

extern const Family k_roberta;
const Family k_roberta = {"roberta",
                          "roberta.",
                          read_spec,
                          roberta_tensors,
                          "RoBERTa",
                          "RobertaModel RobertaForMaskedLM RobertaForSequenceClassification "
                          "RobertaForTokenClassification RobertaForQuestionAnswering"};

}  // namespace quell
