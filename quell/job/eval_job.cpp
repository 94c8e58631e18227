#include "quell/job/eval_job.h"

#include "quell/job/engine.h"

namespace quell {

std::unique_ptr<Tokenizer> open_tokenizer_for(const Dataset& data, const std::filesystem::path& dir) {
  return data.holds_ids ? nullptr : std::make_unique<Tokenizer>(Tokenizer::open(dir));
}

Report run_eval_job(const EvalJob& job, ExecContext& ctx) {
  const Model model = load_model(Checkpoint::open(job.model_dir));
  const Dataset data = read_dataset(job.data.file, job.data.columns);
  const EvalSet set = load_eval_set(job.options, data, open_tokenizer_for(data, job.model_dir).get(), model);
  const std::string engine_name = !job.engine.empty() ? job.engine : model.is_quantized() ? "integer" : "float";
  const auto engine = make_engine(engine_name, model, ctx);

  std::optional<Model> reference;
  std::unique_ptr<ForwardModel> reference_engine;
  if (!job.reference_dir.empty()) {
    reference = load_model(Checkpoint::open(job.reference_dir));
    reference_engine = make_float_model(*reference);
  }
  Report report;
  Reference compared{reference_engine.get(), {}};
  report.add(engine_name, job.options.task, evaluate(*engine, reference_engine ? &compared : nullptr, job.options, set, ctx));
  return report;
}

}  // namespace quell
