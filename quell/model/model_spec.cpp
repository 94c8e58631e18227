#include "quell/model/model_spec.h"

namespace quell {

std::string head_name(Head head) {
  switch (head) {
    case Head::kNone: return "none";
    case Head::kSequenceClassification: return "sequence classification";
    case Head::kTokenClassification: return "token classification";
    case Head::kQuestionAnswering: return "question answering";
    case Head::kMaskedLm: return "masked LM";
    case Head::kCausalLm: return "causal LM";
    case Head::kSeq2SeqLm: return "sequence-to-sequence LM";
    case Head::kImageClassification: return "image classification";
  }
  return "?";
}

}  // namespace quell
