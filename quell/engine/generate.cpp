#include "quell/engine/generate.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "quell/base/error.h"

namespace quell {
namespace {

/// Prompt and new tokens of all sequences, padded on the left, so that every last column is the
/// newest token.
TokenBatch make_left_padded(const std::vector<std::vector<std::int32_t>>& sequences,
                            std::int32_t pad_id) {
  TokenBatch batch;
  batch.batch = static_cast<std::int64_t>(sequences.size());
  for (const auto& s : sequences)
    batch.length = std::max(batch.length, static_cast<std::int64_t>(s.size()));
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

void check_head(const ForwardModel& model) {
  const Head head = model.model().spec.head;
  require(head == Head::kCausalLm || head == Head::kSeq2SeqLm, ErrorCode::kUsage,
          model.model().dir.path().string(), ": a ", head_name(head),
          " model cannot generate text");

  const Graph& graph = model.model().graph;
  const int last_stack = static_cast<int>(graph.stacks.size()) - 1;
  for (const Node& node : graph.nodes()) {
    if (!node.is(op_attention) || node.place.stack != last_stack) continue;
    const AttentionSpec& attention = attention_of(node);
    require(attention.causal || attention.cross, ErrorCode::kUnsupported,
            model.model().dir.path().string(),
            ": nothing can be generated with \"is_causal\": false, for every token would change "
            "those before it; remove the key from "
            "config.json, or use quell embed");
  }
}

bool is_end(const ModelSpec& spec, const GenerateOptions& options, std::int32_t token) {
  const std::vector<std::int32_t>& ends =
      options.settings ? options.settings->eos_token_ids : spec.eos_token_ids;
  return options.stop_at_eos && std::find(ends.begin(), ends.end(), token) != ends.end();
}

/// Nothing where no score would change.
std::optional<TokenRules> rules_for(const GenerateOptions& options, std::size_t prompt_length) {
  if (!options.settings) return std::nullopt;
  TokenRules rules(*options.settings, static_cast<std::int64_t>(prompt_length),
                   options.max_new_tokens);
  if (!rules.active()) return std::nullopt;
  return rules;
}

std::int32_t choose_token(std::span<const float> logits, const std::optional<TokenRules>& rules,
                          std::span<const std::int32_t> history, const SamplingOptions& sampling,
                          Random& random) {
  if (!rules) return sample_token(logits, sampling, random);

  std::vector<float> scores(logits.begin(), logits.end());
  rules->apply(history, scores);
  return sample_token(scores, sampling, random);
}

/// Runs everything again for every token: encoder-decoder models, and attention that no cache can
/// continue.
class Generator {
 public:
  Generator(const ForwardModel& model, const TokenBatch& prompt, const GenerateOptions& options)
      : model_(model),
        spec_(model.model().spec),
        prompt_(prompt),
        options_(options),
        encoder_decoder_(model.model().graph.is_encoder_decoder()) {
    for (std::int64_t b = 0; b < prompt.batch; ++b) {
      auto& s = sequences_.emplace_back();
      if (encoder_decoder_) s.push_back(decoder_start());
      for (std::int64_t i = 0; i < prompt.row_count(b) && !encoder_decoder_; ++i)
        if (const auto at = static_cast<std::size_t>(prompt.row_begin(b) + i); prompt.mask[at])
          s.push_back(prompt.ids[at]);
      require(!s.empty(), ErrorCode::kInvalidInput, "prompt ", b, " is empty");
      randoms_.emplace_back(options.sampling.seed + static_cast<std::uint64_t>(b));
      rules_.push_back(rules_for(options, s.size()));
    }
  }

  std::vector<std::vector<std::int32_t>> run(ExecContext& ctx) {
    std::vector<std::vector<std::int32_t>> out(sequences_.size());
    std::vector<bool> done(sequences_.size(), false);
    for (std::int64_t step = 0;
         step < options_.max_new_tokens && std::count(done.begin(), done.end(), false) > 0;
         ++step) {
      const std::vector<std::int32_t> next = next_tokens(ctx);
      for (std::size_t b = 0; b < sequences_.size(); ++b) {
        done[b] = done[b] || is_end(spec_, options_, next[b]);
        if (done[b]) continue;
        out[b].push_back(next[b]);
        if (options_.on_token) options_.on_token(b, next[b]);

        // Where there is no room to read the new token, it is the last.
        done[b] = static_cast<std::int64_t>(sequences_[b].size()) >= spec_.max_position_embeddings;
        if (!done[b]) sequences_[b].push_back(next[b]);
        if (done[b] && step + 1 < options_.max_new_tokens && options_.on_full_context)
          options_.on_full_context(b);
      }
    }
    return out;
  }

 private:
  std::int32_t decoder_start() const {
    const auto& settings = options_.settings;
    return settings && settings->decoder_start_token_id ? *settings->decoder_start_token_id
                                                        : spec_.decoder_start_token_id;
  }

  std::vector<std::int32_t> next_tokens(ExecContext& ctx) {
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
      const std::span<const float> row(logits.row((b + 1) * length - 1),
                                       static_cast<std::size_t>(logits.cols()));
      const auto i = static_cast<std::size_t>(b);
      next.push_back(choose_token(row, rules_[i], sequences_[i], options_.sampling, randoms_[i]));
    }
    return next;
  }

  const ForwardModel& model_;
  const ModelSpec& spec_;
  const TokenBatch& prompt_;
  const GenerateOptions& options_;
  bool encoder_decoder_;
  std::vector<std::vector<std::int32_t>> sequences_;
  std::vector<Random> randoms_;
  std::vector<std::optional<TokenRules>> rules_;
};

}  // namespace

std::int32_t sample_token(std::span<const float> logits, const SamplingOptions& options,
                          Random& random) {
  const auto best =
      static_cast<std::int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
  if (options.temperature <= 0) return best;
  std::vector<std::int32_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  const auto more_likely = [&](std::int32_t a, std::int32_t b) {
    const float x = logits[static_cast<std::size_t>(a)], y = logits[static_cast<std::size_t>(b)];
    return x > y || (x == y && a < b);
  };
  const std::size_t kept = options.top_k > 0
                               ? std::min(order.size(), static_cast<std::size_t>(options.top_k))
                               : order.size();
  std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(kept), order.end(),
                    more_likely);
  std::vector<double> weight(kept);
  double sum = 0;
  for (std::size_t i = 0; i < kept; ++i)
    sum += weight[i] = std::exp((static_cast<double>(logits[static_cast<std::size_t>(order[i])]) -
                                 static_cast<double>(logits[static_cast<std::size_t>(best)])) /
                                options.temperature);
  double nucleus = 0;
  std::size_t count = 0;
  while (count < kept && (count == 0 || nucleus < options.top_p * sum)) nucleus += weight[count++];
  double at = random.uniform() * nucleus;
  for (std::size_t i = 0; i < count; ++i)
    if ((at -= weight[i]) < 0) return order[i];
  return order[count - 1];
}

BatchDecoder::BatchDecoder(const ForwardModel& model, std::int64_t max_sequences,
                           std::int64_t capacity, KvFormat format)
    : model_((check_head(model), model)),
      max_sequences_(max_sequences),
      cache_(model.model(), max_sequences, capacity, format) {
  for (std::int64_t s = max_sequences; s > 0; --s) free_slots_.push_back(s - 1);
}

int BatchDecoder::add(std::vector<std::int32_t> prompt, const SamplingOptions& sampling,
                      std::optional<TokenRules> rules) {
  require(has_room(), ErrorCode::kInvalidInput, "all ", max_sequences_,
          " places for sequences are taken");
  require(!prompt.empty(), ErrorCode::kInvalidInput, "the prompt is empty");
  require(static_cast<std::int64_t>(prompt.size()) <= cache_.capacity(), ErrorCode::kInvalidInput,
          "a prompt of ", prompt.size(), " tokens does not fit ", cache_.capacity());
  const std::int64_t slot = free_slots_.back();
  free_slots_.pop_back();
  cache_.clear(slot);
  std::vector<std::int32_t> history = rules ? prompt : std::vector<std::int32_t>();
  running_.emplace(next_id_, Running{std::move(prompt), slot, sampling, Random(sampling.seed),
                                     std::move(rules), std::move(history)});
  return next_id_++;
}

void BatchDecoder::remove(int id) {
  const auto it = running_.find(id);
  require(it != running_.end(), ErrorCode::kInvalidInput, "there is no sequence ", id);
  free_slots_.push_back(it->second.slot);
  running_.erase(it);
}

void BatchDecoder::forward(const std::vector<int>& ids, std::map<int, std::int32_t>& tokens,
                           ExecContext& ctx) {
  if (ids.empty()) return;
  TokenBatch batch;
  CachedPass pass{&cache_, {}};
  batch.batch = static_cast<std::int64_t>(ids.size());
  batch.starts.push_back(0);
  for (const int id : ids) {
    const Running& r = running_.at(id);
    const auto count = static_cast<std::int64_t>(r.pending.size());
    batch.ids.insert(batch.ids.end(), r.pending.begin(), r.pending.end());
    batch.length = std::max(batch.length, count);
    batch.starts.push_back(batch.starts.back() + count);
    batch.past.push_back(static_cast<std::int32_t>(cache_.length(r.slot)));
    pass.slots.push_back(r.slot);
  }
  batch.mask.assign(batch.ids.size(), 1);
  batch.type_ids.assign(batch.ids.size(), 0);
  ForwardOutputs outputs;
  outputs.cached = &pass;
  outputs.last_tokens_only = true;
  model_.forward(batch, outputs, ctx);
  const Tensor& logits = outputs.values.at("logits");
  for (std::size_t i = 0; i < ids.size(); ++i) {
    Running& r = running_.at(ids[i]);
    const std::span<const float> row(logits.row(static_cast<std::int64_t>(i)),
                                     static_cast<std::size_t>(logits.cols()));
    const std::int32_t token = choose_token(row, r.rules, r.history, r.sampling, r.random);
    if (r.rules) r.history.push_back(token);
    tokens[ids[i]] = token;
    r.pending = {token};
  }
}

std::vector<BatchDecoder::NewToken> BatchDecoder::step(ExecContext& ctx) {
  std::vector<int> fresh, old;
  for (const auto& [id, r] : running_) (cache_.length(r.slot) == 0 ? fresh : old).push_back(id);
  std::map<int, std::int32_t> tokens;
  forward(fresh, tokens, ctx);
  forward(old, tokens, ctx);
  std::vector<NewToken> out;
  for (const auto& [id, token] : tokens)
    out.push_back({id, token, cache_.length(running_.at(id).slot) >= cache_.capacity()});
  return out;
}

std::vector<std::vector<std::int32_t>> generate(const ForwardModel& model, const TokenBatch& prompt,
                                                const GenerateOptions& options, ExecContext& ctx) {
  check_head(model);
  const ModelSpec& spec = model.model().spec;
  if (!supports_kv_cache(model.model())) return Generator(model, prompt, options).run(ctx);
  std::vector<std::vector<std::int32_t>> prompts, out(static_cast<std::size_t>(prompt.batch));
  std::size_t longest = 0;
  for (std::int64_t b = 0; b < prompt.batch; ++b) {
    auto& p = prompts.emplace_back();
    for (std::int64_t i = 0; i < prompt.row_count(b); ++i)
      if (const auto at = static_cast<std::size_t>(prompt.row_begin(b) + i); prompt.mask[at])
        p.push_back(prompt.ids[at]);
    require(!p.empty(), ErrorCode::kInvalidInput, "prompt ", b, " is empty");
    longest = std::max(longest, p.size());
  }
  const auto context = std::min<std::int64_t>(
      spec.max_position_embeddings, static_cast<std::int64_t>(longest) + options.max_new_tokens);
  BatchDecoder decoder(model, prompt.batch, context, options.kv_format);
  std::map<int, std::size_t> sequence;
  for (std::size_t b = 0; b < prompts.size(); ++b) {
    SamplingOptions sampling = options.sampling;
    sampling.seed += b;
    sequence[decoder.add(prompts[b], sampling, rules_for(options, prompts[b].size()))] = b;
  }
  while (decoder.size() > 0 && options.max_new_tokens > 0)
    for (const BatchDecoder::NewToken& t : decoder.step(ctx)) {
      const std::size_t b = sequence.at(t.id);
      if (is_end(spec, options, t.token)) {
        decoder.remove(t.id);
        continue;
      }
      out[b].push_back(t.token);
      if (options.on_token) options.on_token(b, t.token);
      const auto length = static_cast<std::int64_t>(prompts[b].size() + out[b].size());
      const bool last = static_cast<std::int64_t>(out[b].size()) >= options.max_new_tokens;
      const bool full = t.full || length > spec.max_position_embeddings;
      if (full && !last && options.on_full_context) options.on_full_context(b);
      if (last || full) decoder.remove(t.id);
    }
  return out;
}

}  // namespace quell
