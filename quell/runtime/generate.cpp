#include "quell/runtime/generate.h"

#include <algorithm>

#include "quell/base/error.h"

namespace quell {
namespace {

/// Prompt and new tokens of all sequences, padded on the left, so that every last column is the newest token.
TokenBatch make_left_padded(const std::vector<std::vector<std::int32_t>>& sequences, std::int32_t pad_id) {
  TokenBatch batch;
  batch.batch = static_cast<std::int64_t>(sequences.size());
  for (const auto& s : sequences) batch.length = std::max(batch.length, static_cast<std::int64_t>(s.size()));
  for (const auto& s : sequences) {
    const std::size_t missing = static_cast<std::size_t>(batch.length) - s.size();
    batch.ids.insert(batch.ids.end(), missing, pad_id);
    batch.mask.insert(batch.mask.end(), missing, 0);
    batch.ids.insert(batch.ids.end(), s.begin(), s.end());
    batch.mask.insert(batch.mask.end(), s.size(), 1);
  }
  batch.type_ids.assign(batch.ids.size(), 0);
  return batch;
}

class Generator {
 public:
  Generator(const ForwardModel& model, const TokenBatch& prompt, const GenerateOptions& options)
      : model_(model), spec_(model.model().spec), prompt_(prompt), options_(options), encoder_decoder_(spec_.stacks.size() > 1) {
    require(spec_.head == Head::kCausalLm || spec_.head == Head::kSeq2SeqLm, ErrorCode::kUsage, model.model().dir.string(), ": a ",
            head_name(spec_.head), " model cannot generate text");
    for (std::int64_t b = 0; b < prompt.batch; ++b) {
      auto& s = sequences_.emplace_back();
      if (encoder_decoder_) s.push_back(spec_.decoder_start_token_id);
      for (std::int64_t i = 0; i < prompt.length && !encoder_decoder_; ++i)
        if (const auto at = static_cast<std::size_t>(b * prompt.length + i); prompt.mask[at]) s.push_back(prompt.ids[at]);
      require(!s.empty(), ErrorCode::kInvalidInput, "prompt ", b, " is empty");
    }
  }

  std::vector<std::vector<std::int32_t>> run(ExecContext& ctx) {
    std::vector<std::vector<std::int32_t>> out(sequences_.size());
    std::vector<bool> done(sequences_.size(), false);
    for (std::int64_t step = 0; step < options_.max_new_tokens && std::count(done.begin(), done.end(), false) > 0; ++step) {
      const std::vector<std::int32_t> next = next_tokens(ctx);
      for (std::size_t b = 0; b < sequences_.size(); ++b) {
        sequences_[b].push_back(next[b]);
        const auto& eos = spec_.eos_token_ids;
        done[b] = done[b] || (options_.stop_at_eos && std::find(eos.begin(), eos.end(), next[b]) != eos.end());
        if (!done[b]) out[b].push_back(next[b]);
      }
    }
    return out;
  }

 private:
  std::vector<std::int32_t> next_tokens(ExecContext& ctx) const {
    TokenBatch batch = make_left_padded(sequences_, spec_.pad_token_id);
    const std::int64_t length = batch.length;
    if (encoder_decoder_) {
      TokenBatch both = prompt_;
      both.decoder_length = length;
      both.decoder_ids = std::move(batch.ids);
      both.decoder_mask = std::move(batch.mask);
      batch = std::move(both);
    }
    ForwardOutputs outputs;
    model_.forward(batch, outputs, ctx);
    const Tensor& logits = outputs.values.at("logits");
    std::vector<std::int32_t> next;
    for (std::int64_t b = 0; b < batch.batch; ++b) {
      const float* row = logits.row((b + 1) * length - 1);
      next.push_back(static_cast<std::int32_t>(std::max_element(row, row + logits.cols()) - row));
    }
    return next;
  }

  const ForwardModel& model_;
  const ModelSpec& spec_;
  const TokenBatch& prompt_;
  const GenerateOptions& options_;
  bool encoder_decoder_;
  std::vector<std::vector<std::int32_t>> sequences_;
};

}  // namespace

std::vector<std::vector<std::int32_t>> generate(const ForwardModel& model, const TokenBatch& prompt, const GenerateOptions& options,
                                                ExecContext& ctx) {
  return Generator(model, prompt, options).run(ctx);
}

}  // namespace quell
