// RoBERTa (Liu et al. 2019): BERT with positions that skip the padding token, and another
// classification head.
#include "quell/model/bert_like.h"

namespace quell {
namespace {

void build(ModelBuilder& g, const Config& c) { build_roberta(g, c, "Roberta", 50265); }

}  // namespace

extern const Family k_roberta;
const Family k_roberta = {"roberta", "roberta.", build, "RoBERTa",
                          "RobertaModel RobertaForMaskedLM RobertaForSequenceClassification "
                          "RobertaForTokenClassification RobertaForQuestionAnswering"};

}  // namespace quell
