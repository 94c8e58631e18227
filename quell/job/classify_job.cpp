#include "quell/job/classify_job.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "quell/base/error.h"
#include "quell/eval/packed_forward.h"
#include "quell/io/json.h"
#include "quell/job/engine.h"

namespace quell {
namespace {

void append_label(std::string& line, const std::string& label, float score) {
  line += "{\"label\": ";
  append_string(line, label);
  line += ", \"score\": ";
  append_number(line, score);
  line += "}";
}

/// The best first; equal scores in the order of the labels.
std::vector<std::size_t> ranking(std::span<const float> scores) {
  std::vector<std::size_t> order(scores.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return scores[a] > scores[b]; });
  return order;
}

class Classifier {
 public:
  Classifier(const ClassifyJob& job, const Model& model, ExecContext& ctx)
      : job_(job),
        model_(model),
        ctx_(ctx),
        of_tokens_(model.spec.head == Head::kTokenClassification),
        encoder_(model, job.text.max_seq_length),
        engine_(make_engine(engine_name(job.text, model), model, ctx)),
        cut_(encoder_, "texts") {}

  void run(std::istream& in, std::ostream& out) {
    TextInput input = job_.text.input;
    input.pairs = !of_tokens_;
    TextRows rows(std::move(input), in);
    for (std::vector<TextRows::Row> read; !(read = rows.next(kRowsAtOnce)).empty();) {
      const std::string text = answer(read, rows.source());
      out.write(text.data(), std::ssize(text));
      require(out.good(), ErrorCode::kIo, "cannot write to standard output");
    }
    cut_.report();
  }

 private:
  std::string answer(const std::vector<TextRows::Row>& rows, const std::string& source) {
    std::vector<TextEncoder::Encoded> encoded = encoder_.encode(examples_of(rows), ctx_);
    cut_.add(encoded);
    const std::vector<TokenSequence> sequences = sequences_of(model_, encoded, rows, source);
    const auto logits = run_packed(*engine_, sequences, "logits", ctx_);

    std::string text;
    for (std::size_t i = 0; i < rows.size(); ++i) {
      prepare(std::ssize(logits[i].front()));
      if (of_tokens_)
        append_tokens(text, rows[i], source, logits[i]);
      else
        append_text_labels(text, logits[i].front());
      text += "\n";
    }
    return text;
  }

  void prepare(std::int64_t labels) {
    if (!names_.empty()) return;
    names_ = label_names(*model_.config, labels);
    function_ = of_tokens_ ? ScoreFunction::kSoftmax : score_function(*model_.config, labels);
  }

  void append_text_labels(std::string& line, std::span<const float> logits) const {
    const std::vector<float> scores = scores_of(function_, logits);
    const std::vector<std::size_t> order = ranking(scores);
    if (job_.top_k == 1) return append_label(line, names_[order.front()], scores[order.front()]);

    const std::size_t count = job_.top_k == 0
                                  ? order.size()
                                  : std::min(order.size(), static_cast<std::size_t>(job_.top_k));
    line += "[";
    for (std::size_t i = 0; i < count; ++i) {
      if (i > 0) line += ", ";
      append_label(line, names_[order[i]], scores[order[i]]);
    }
    line += "]";
  }

  void append_tokens(std::string& line, const TextRows::Row& row, const std::string& source,
                     const std::vector<std::vector<float>>& logits) const {
    require(row.example.texts.size() == 1, ErrorCode::kUnsupported, source, ":", row.number,
            ": tokens are classified in texts alone, not in token ids");
    const Encoding encoding = encoder_.encode_with_offsets(row.example.texts.front());
    bool first = true;
    line += "[";
    for (std::size_t t = 0; t < logits.size(); ++t) {
      const std::vector<float> scores = scores_of(function_, logits[t]);
      const std::size_t best = ranking(scores).front();
      if (encoding.special_tokens_mask[t] != 0 || names_[best] == "O") continue;

      line += first ? "{\"entity\": " : ", {\"entity\": ";
      first = false;
      append_string(line, names_[best]);
      line += ", \"score\": ";
      append_number(line, scores[best]);
      line += str(", \"index\": ", t, ", \"word\": ");
      append_string(line, encoding.tokens[t]);
      line += str(", \"start\": ", encoding.offsets[t].begin,
                  ", \"end\": ", encoding.offsets[t].end, "}");
    }
    line += "]";
  }

  const ClassifyJob& job_;
  const Model& model_;
  ExecContext& ctx_;
  bool of_tokens_;
  TextEncoder encoder_;
  std::unique_ptr<ForwardModel> engine_;
  CutCount cut_;
  std::vector<std::string> names_;
  ScoreFunction function_ = ScoreFunction::kNone;
};

}  // namespace

ScoreFunction score_function(const Json& config, std::int64_t labels) {
  const std::string problem = json_string(config, "problem_type", "");
  if (problem == "regression") return ScoreFunction::kNone;
  return problem == "multi_label_classification" || labels == 1 ? ScoreFunction::kSigmoid
                                                                : ScoreFunction::kSoftmax;
}

std::vector<float> scores_of(ScoreFunction function, std::span<const float> logits) {
  std::vector<float> out(logits.begin(), logits.end());
  if (function == ScoreFunction::kNone) return out;
  if (function == ScoreFunction::kSigmoid) {
    for (float& v : out) v = static_cast<float>(1 / (1 + std::exp(-static_cast<double>(v))));
    return out;
  }

  const double top = static_cast<double>(*std::max_element(out.begin(), out.end()));
  double sum = 0;
  for (const float v : out) sum += std::exp(static_cast<double>(v) - top);
  for (float& v : out) v = static_cast<float>(std::exp(static_cast<double>(v) - top) / sum);
  return out;
}

std::vector<std::string> label_names(const Json& config, std::int64_t labels) {
  const Json names =
      config.is_object() && config.contains("id2label") ? config["id2label"] : Json();
  std::vector<std::string> out;
  for (std::int64_t i = 0; i < labels; ++i) {
    const std::string key = std::to_string(i);
    Json name;
    if (names.is_object() && names.contains(key)) name = names[key];
    if (names.is_array() && i < std::ssize(names)) name = names[static_cast<std::size_t>(i)];
    out.push_back(name.is_string() ? name.get<std::string>() : "LABEL_" + key);
  }
  return out;
}

void run_classify_job(const ClassifyJob& job, std::istream& in, std::ostream& out,
                      ExecContext& ctx) {
  const Model model = load_model(Checkpoint::open(job.text.model_dir));
  require_text_model(model);
  const Head head = model.spec.head;
  require(
      head == Head::kSequenceClassification || head == Head::kTokenClassification,
      ErrorCode::kUnsupported, model.dir.path().string(),
      ": classify needs a model for sequence or token classification; the head of this one is: ",
      head_name(head));
  Classifier classifier(job, model, ctx);
  job.text.model_dir.check_accepted();
  classifier.run(in, out);
}

}  // namespace quell
