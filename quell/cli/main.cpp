// The command `quell`.
#include "quell/cli/program.h"
#include "quell/cli/training_program.h"

int main(int argc, char** argv) {
  using namespace quell::cli;
  static constexpr AddCommand* kCommands[] = {
      add_quantize, add_train,      add_distill,  add_eval,  add_inspect,  add_verify,
      add_tokenize, add_detokenize, add_generate, add_embed, add_classify, add_rerank,
      add_bench,    add_models,     add_recipes,  add_report};
  remember_arguments(argv);
  return run_program(
      "Quell: outlier suppression, quantization and integer inference for transformer models and "
      "networks of convolutions",
      kCommands, argc, argv);
}
