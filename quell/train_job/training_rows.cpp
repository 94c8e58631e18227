#include "quell/train_job/training_rows.h"

#include <algorithm>
#include <cmath>

#include "quell/base/error.h"
#include "quell/eval/glue.h"
#include "quell/io/json.h"
#include "quell/model/family.h"
#include "quell/model/text_encoder.h"
#include "quell/ops/likelihood.h"
#include "quell/text/data/text_file.h"
#include "quell/train/losses/logits.h"

namespace quell::train {
namespace {

/// Which tokens of held-out text are masked does not change from one evaluation to the next.
constexpr std::uint64_t kHeldOutSeed = 20220501;

bool is_labelled(TaskKind kind) { return kind == TaskKind::kClasses || kind == TaskKind::kValue; }

EvalOptions eval_options(const TrainTask& task, const RowChoice& rows) {
  EvalOptions options;
  options.task = task.measured_as;
  options.limit = rows.limit;
  if (task.kind == TaskKind::kCausalLm)
    options.window = rows.max_seq_length;
  else
    options.max_seq_length = rows.max_seq_length;
  return options;
}

void keep_first(std::int64_t limit, Dataset& data) {
  if (limit > 0 && std::ssize(data.examples) > limit)
    data.examples.resize(static_cast<std::size_t>(limit));
}

std::int64_t within_positions(const RowChoice& rows, const Model& model) {
  return std::min(rows.max_seq_length, model.spec.max_position_embeddings);
}

/// Of the tokenizer's files, or what BERT and RoBERTa call it.
std::int32_t mask_id_of(const Model& model, const Tokenizer& tokenizer) {
  const Settings settings = model.dir.read_if_there("tokenizer_config.json");
  const Json& named = settings.json().value("mask_token", Json());
  std::vector<std::string> names;
  if (named.is_string()) names.push_back(named.get<std::string>());
  if (named.is_object()) names.push_back(json_string(named, "content", ""));
  names.insert(names.end(), {"[MASK]", "<mask>"});
  for (const std::string& name : names)
    if (const auto id = tokenizer.id_of(name)) return *id;
  throw Error(ErrorCode::kInvalidInput, model.dir.string() +
                                            ": the tokenizer has no mask token; a masked language "
                                            "model cannot be trained with it");
}

void set_mask(const Model& model, const Tokenizer& tokenizer, TrainingSet& set) {
  set.mask_id = mask_id_of(model, tokenizer);
  set.vocabulary = static_cast<std::int32_t>(model.spec.vocab_size);
  for (std::int32_t id = 0; id < tokenizer.vocab_size(); ++id)
    if (tokenizer.is_special(id)) set.special_ids.push_back(id);
}

/// Rows of text alone.
std::vector<TokenSequence> read_texts(const RowChoice& rows, const Model& model) {
  Dataset data = read_dataset(rows.data.file, rows.data.columns, LabelUse::kIgnore);
  keep_first(rows.limit, data);
  const auto tokenizer = open_tokenizer_for(data, model);
  return tokenize_examples(data, tokenizer.get(), PairMode::kPair, within_positions(rows, model),
                           EmptyRows::kLeaveOut);
}

/// Document and summary, or whatever two columns are named.
void read_targets(const RowChoice& rows, const Model& model, TrainingSet& set) {
  ColumnChoice columns = rows.data.columns;
  if (columns.text.empty()) columns.text = {"document", "summary"};
  require(columns.text.size() == 2, ErrorCode::kUsage,
          "--text-column: seq2seq reads two, what is read and what is to be written");
  Dataset data = read_dataset(rows.data.file, columns, LabelUse::kIgnore);
  keep_first(rows.limit, data);
  require(!data.holds_ids, ErrorCode::kInvalidInput, data.source,
          ": seq2seq reads two texts a row, not token ids");

  const Tokenizer tokenizer = open_tokenizer(model);
  const EncodeOptions options{.max_length = within_positions(rows, model)};
  for (const Example& row : data.examples) {
    require(row.texts.size() == 2, ErrorCode::kInvalidInput, data.source, ":", row.line,
            ": seq2seq needs two texts");
    set.sequences.push_back({tokenizer.encode(row.texts[0], options).ids, {}, {}});
    set.targets.push_back({tokenizer.encode(row.texts[1], options).ids, {}, {}});
  }
  set.decoder_start_id = model.spec.decoder_start_token_id;
}

/// Each row once, with tokens masked and labelled.
std::vector<TokenSequence> masked_sequences(const TrainingSet& set) {
  const TrainingData data(set, {.batch_size = 1, .seed = kHeldOutSeed, .fixed_batches = true});
  std::vector<TokenSequence> out;
  for (std::int64_t i = 0; i < data.batches_per_epoch(); ++i) {
    const TrainingBatch batch = data.batch(i);
    TokenSequence sequence{batch.tokens.ids, batch.tokens.type_ids, {}};
    const torch::Tensor labels = batch.labels.flatten().to(torch::kInt32).contiguous();
    sequence.labels.assign(labels.data_ptr<std::int32_t>(),
                           labels.data_ptr<std::int32_t>() + labels.numel());
    out.push_back(std::move(sequence));
  }
  return out;
}

bool holds_labels(const DataChoice& data) { return data_ending(data.file) == ".safetensors"; }

/// How likely a model finds the targets.
std::vector<MetricResult> measure_targets(const ForwardModel& model, const TrainingSet& set,
                                          ExecContext& ctx) {
  constexpr std::int64_t kBatch = 8;
  const TrainingData data(set, {.batch_size = kBatch, .seed = kHeldOutSeed, .fixed_batches = true});
  double loss = 0;
  std::int64_t count = 0;
  for (std::int64_t i = 0; i < data.batches_per_epoch(); ++i) {
    const TrainingBatch batch = data.batch(i);
    ForwardOutputs outputs;
    model.forward(batch.tokens, outputs, ctx);
    const Tensor& logits = outputs.values.at("logits");
    const torch::Tensor labels = batch.labels.flatten().contiguous();
    for (std::int64_t t = 0; t < labels.numel(); ++t) {
      const auto label = static_cast<std::int32_t>(labels[t].item<std::int64_t>());
      if (label < 0) continue;
      const std::span<const float> row(logits.row(t), static_cast<std::size_t>(logits.cols()));
      loss += negative_log_likelihood(row, label);
      ++count;
    }
    ctx.progress("evaluate", i + 1, data.batches_per_epoch());
  }
  return {{"perplexity", std::exp(loss / static_cast<double>(count)), count}};
}

void check_classes(const std::vector<double>& labels, const std::string& source,
                   const Model& model) {
  const std::int64_t classes = num_labels(Settings(*model.config, "config.json"));
  check_labels(labels, classes, source);
}

}  // namespace

TrainingSet read_training_set(const TrainTask& task, const RowChoice& rows, const Model& model) {
  TrainingSet set;
  set.kind = task.kind;
  set.source = rows.data.file.string();
  set.pad_id = model.spec.pad_token_id;
  switch (task.kind) {
    case TaskKind::kClasses:
    case TaskKind::kValue:
    case TaskKind::kCausalLm: {
      EvalSet read = load_eval_set(eval_options(task, rows), rows.data, model);
      set.sequences = std::move(read.sequences);
      set.labels = std::move(read.labels);
      break;
    }
    case TaskKind::kMaskedLm: {
      set.sequences = read_texts(rows, model);
      set_mask(model, open_tokenizer(model), set);
      break;
    }
    case TaskKind::kSeq2Seq: read_targets(rows, model, set); break;
    case TaskKind::kUnlabelled: break;
  }

  // Next tokens are their own labels; those of windows are made by TrainingData.
  for (TokenSequence& sequence : set.sequences) sequence.labels.clear();
  const bool has_classes = task.kind == TaskKind::kClasses;
  check_training_set(set, has_classes ? num_labels(Settings(*model.config, "config.json")) : 0);
  return set;
}

void add_unlabelled_rows(const std::vector<std::filesystem::path>& files,
                         const ColumnChoice& columns, std::int64_t max_seq_length,
                         const Model& model, TrainingSet& set) {
  require(files.empty() || is_labelled(set.kind), ErrorCode::kUsage,
          "--unlabelled: goes with tasks that have a label a row; of language models, whose rows "
          "are text alone, put all into --data");
  for (const std::filesystem::path& file : files) {
    const RowChoice rows{.data = {file, columns}, .max_seq_length = max_seq_length};
    for (TokenSequence& sequence : read_texts(rows, model)) {
      set.sequences.push_back(std::move(sequence));
      const double none = set.kind == TaskKind::kClasses ? kIgnoredLabel : std::nan("");
      set.labels.push_back(none);
    }
  }
}

std::int64_t count_classes(const TrainTask& task, const DataChoice& choice) {
  const Dataset data = read_dataset(choice.file, task_columns(task.measured_as, choice));
  double largest = 0;
  for (const Example& row : data.examples)
    if (row.label) largest = std::max(largest, *row.label);
  const auto rows = static_cast<double>(data.examples.size());
  require(largest < 1e6 && largest < std::max(rows, 2.0), ErrorCode::kInvalidInput, data.source,
          ": label ", largest, " of ", rows,
          " rows is no class; for numbers use --task regression, or say --num-labels");
  return std::max<std::int64_t>(2, std::llround(largest) + 1);
}

HeldOut::HeldOut(const TrainTask& task, const RowChoice& rows, const Model& model)
    : task_(task), options_(eval_options(task, rows)) {
  if (task.kind == TaskKind::kSeq2Seq) {
    targets_ = read_training_set(task, rows, model);
  } else if (task.kind == TaskKind::kMaskedLm && !holds_labels(rows.data)) {
    const TrainingSet text = read_training_set(task, rows, model);
    set_.sequences = masked_sequences(text);
    set_.source = text.source;
  } else {
    set_ = load_eval_set(options_, rows.data, model);
    if (task.kind == TaskKind::kClasses) check_classes(set_.labels, set_.source, model);
  }
}

std::vector<MetricResult> HeldOut::measure(const ForwardModel& model, ExecContext& ctx) const {
  if (task_.kind == TaskKind::kSeq2Seq) return measure_targets(model, targets_, ctx);
  return evaluate(model, nullptr, options_, set_, ctx);
}

double HeldOut::score(const std::vector<MetricResult>& results) const {
  const MetricResult* best = &results.front();
  for (const MetricResult& result : results)
    if (task_.best_by && result.metric == task_.best_by) best = &result;
  return task_.smaller_is_better ? -best->value : best->value;
}

const std::vector<TokenSequence>& HeldOut::sequences() const {
  return task_.kind == TaskKind::kSeq2Seq ? targets_.sequences : set_.sequences;
}

}  // namespace quell::train
