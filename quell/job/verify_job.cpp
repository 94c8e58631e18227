#include "quell/job/verify_job.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "quell/base/error.h"
#include "quell/io/safetensors.h"
#include "quell/job/engine.h"
#include "quell/model/image_input.h"

namespace quell {
namespace {

constexpr const char* kHiddenStates[] = {"hidden_states.", "encoder_hidden_states.",
                                         "decoder_hidden_states."};

/// Names of tensors that are compared: what models of texts give, and what this one gives.
class OutputNames {
 public:
  explicit OutputNames(const Model& model) {
    for (const auto& [name, value] : model.graph.outputs) names_.insert(name);
  }
  bool contains(const std::string& name) const {
    return names_.contains(name) ||
           std::any_of(std::begin(kHiddenStates), std::end(kHiddenStates),
                       [&](const char* prefix) { return name.starts_with(prefix); });
  }
  /// "left." of "left.logits".
  std::string prefix_of(const std::string& name) const {
    for (std::size_t at = name.find('.'); at != std::string::npos; at = name.find('.', at + 1))
      if (contains(name.substr(at + 1))) return name.substr(0, at + 1);
    return "";
  }

 private:
  std::set<std::string> names_ = {
      "logits",     "last_hidden_state", "pooler_output",       "start_logits",
      "end_logits", "embedding",         "embedding_normalized"};
};

/// Pixels of an image as others record them, [images, channels, height, width].
Tensor as_planes(const Tensor& rows, std::int64_t pixels) {
  Tensor out = Tensor::f32({rows.rows() / pixels * rows.cols(), pixels});
  for (std::int64_t r = 0; r < rows.rows(); ++r)
    for (std::int64_t c = 0; c < rows.cols(); ++c)
      out.row(r / pixels * rows.cols() + c)[r % pixels] = rows.row(r)[c];
  return out;
}

/// Inputs of a group: "<prefix>input_ids", or the main inputs cut to [rows, length].
TokenBatch read_inputs(const SafetensorsFile& file, const std::string& prefix, std::int64_t rows,
                       std::int64_t length, const ModelSpec& spec) {
  TokenBatch batch;
  if (file.has(prefix + "pixel_values")) {
    const TensorView& view = file.at(prefix + "pixel_values");
    require(view.shape().rank() == 4, ErrorCode::kInvalidInput, file.source(),
            ": pixel_values must be [rows, channels, height, width]");
    const Tensor pixels = to_f32(view, "pixel_values");
    return batch_of_pixels(spec, view.shape()[0], {pixels.f32().begin(), pixels.f32().end()});
  }
  const std::string base = file.has(prefix + "input_ids") ? prefix : "";
  const TensorView& view = file.at(base + "input_ids");
  const Shape& shape = view.shape();
  require(shape.rank() == 1 || shape.rank() == 2, ErrorCode::kInvalidInput, file.source(),
          ": input_ids must be [rows, length]");
  const std::int64_t all_rows = shape.rank() == 1 ? 1 : shape[0], all_length = shape[-1];
  batch.batch = rows > 0 ? std::min(rows, all_rows) : all_rows;
  batch.length = length > 0 ? std::min(length, all_length) : all_length;
  const auto cut = [&](const std::string& name, std::int32_t fallback) {
    std::vector<std::int32_t> all(static_cast<std::size_t>(all_rows * all_length), fallback), out;
    if (file.has(base + name)) {
      require(file.at(base + name).numel() == view.numel(), ErrorCode::kInvalidInput, file.source(),
              ": ", name, " and input_ids differ in shape");
      all = to_i32(file.at(base + name), name);
    }
    for (std::int64_t r = 0; r < batch.batch; ++r)
      out.insert(out.end(), all.begin() + r * all_length,
                 all.begin() + r * all_length + batch.length);
    return out;
  };
  batch.ids = cut("input_ids", 0);
  batch.mask = cut("attention_mask", 1);
  batch.type_ids = cut("token_type_ids", 0);
  if (file.has(base + "decoder_input_ids")) {
    const TensorView& decoder = file.at(base + "decoder_input_ids");
    require(decoder.shape().rank() == 2 && decoder.shape()[0] == batch.batch,
            ErrorCode::kInvalidInput, file.source(),
            ": decoder_input_ids must have a row for each of input_ids");
    batch.decoder_length = decoder.shape()[1];
    batch.decoder_ids = to_i32(decoder, "decoder_input_ids");
  }
  return batch;
}

/// `mask`: of the tokens that rows stand for; rows of another number stand for sequences.
VerifyRow compare(const std::string& name, const Tensor& got, const Tensor& want,
                  std::span<const std::int32_t> mask, double tolerance) {
  VerifyRow row{name};
  require(got.numel() == want.numel(), ErrorCode::kInvalidInput, "tensor \"", name, "\": recorded ",
          want.shape().to_string(), ", computed ", got.shape().to_string());
  const bool per_token = got.rows() == static_cast<std::int64_t>(mask.size());
  for (std::int64_t i = 0; i < got.rows(); ++i) {
    if (per_token && !mask[static_cast<std::size_t>(i)]) continue;
    for (std::int64_t j = 0; j < got.cols(); ++j) {
      const double a = static_cast<double>(got.row(i)[j]),
                   b = static_cast<double>(
                       want.f32()[static_cast<std::size_t>(i * got.cols() + j)]);
      const double difference = std::fabs(a - b);
      row.max_difference = std::max(row.max_difference, difference);
      const double ratio = difference / (tolerance * (1 + std::fabs(b)));
      row.worst_ratio = std::max(
          row.worst_ratio, std::isnan(ratio) ? std::numeric_limits<double>::infinity() : ratio);
      ++row.compared;
    }
  }
  return row;
}

/// What the modules make of the hidden states, but for normalization at their end: that is a name
/// of its own.
Tensor recorded_embedding(const SentencePipeline& sentence, bool normalized,
                          const TensorView& hidden, const TokenBatch& batch, ExecContext& ctx) {
  std::size_t count = sentence.modules.size();
  while (count > 0 && std::holds_alternative<NormalizeModule>(sentence.modules[count - 1])) --count;

  Tensor tokens = Tensor::copy_of(hidden), sentences;
  for (std::size_t i = 0; i < count; ++i) {
    const SentenceModule& module = sentence.modules[i];
    Tensor& in = input_of(module) == SentenceValue::kTokens ? tokens : sentences;
    Tensor made = run_module(module, in, batch, ctx);
    (output_of(module) == SentenceValue::kTokens ? tokens : sentences) = std::move(made);
  }
  return normalized ? run_module(NormalizeModule{}, sentences, batch, ctx) : std::move(sentences);
}

Tensor output_of(const std::string& name, const ForwardModel& engine, const ForwardOutputs& outputs,
                 const TokenBatch& batch, ExecContext& ctx) {
  for (const char* prefix : kHiddenStates) {
    if (!name.starts_with(prefix)) continue;
    const std::size_t index = std::strtoul(name.c_str() + std::string(prefix).size(), nullptr, 10),
                      stack = prefix[0] == 'd' ? 1 : 0;
    require(stack < outputs.hidden_states.size() && index < outputs.hidden_states[stack].size(),
            ErrorCode::kInvalidInput, "tensor \"", name, "\": this model has no such hidden state");
    return outputs.hidden_states[stack][index].clone();
  }
  if (name.starts_with("embedding")) {
    require(engine.model().sentence.defined(), ErrorCode::kInvalidInput, "tensor \"", name,
            "\": this model has no pooling");
    return recorded_embedding(engine.model().sentence, name == "embedding_normalized",
                              outputs.values.at("last_hidden_state"), batch, ctx);
  }
  const auto it = outputs.values.find(name);
  require(it != outputs.values.end(), ErrorCode::kInvalidInput, "tensor \"", name,
          "\": this model does not compute it");
  for (const auto& [output, value] : engine.model().graph.outputs) {
    const RowSpace& rows = engine.model().graph.value(value).type.rows;
    if (output == name && rows.kind == RowSpace::Kind::kImage)
      return as_planes(it->second, rows.height * rows.width);
  }
  return it->second.clone();
}

}  // namespace

TokenBatch read_recorded_inputs(const SafetensorsFile& file, const ModelSpec& spec) {
  return read_inputs(file, "", 0, 0, spec);
}

VerifyResult run_verify_job(const VerifyJob& job, ExecContext& ctx) {
  require(job.tolerance > 0, ErrorCode::kUsage, "--tolerance must be positive");
  const Model model = load_model(Checkpoint::open(job.model_dir));
  job.model_dir.check_accepted();
  const auto engine = make_engine(job.engine, model, ctx);
  const SafetensorsFile file(job.reference);
  std::map<std::string, std::vector<std::string>> groups;  // prefix -> outputs
  const OutputNames known(model);
  for (const auto& [name, view] : file.tensors()) {
    const std::string prefix = known.prefix_of(name);
    const std::string output = name.substr(prefix.size());
    if (known.contains(output)) groups[prefix].push_back(output);
  }
  require(!groups.empty(), ErrorCode::kInvalidInput, file.source(),
          ": holds no recorded output (logits, last_hidden_state, hidden_states.i, ...)");
  VerifyResult result;
  for (const auto& [prefix, names] : groups) {
    std::int64_t rows = 0, length = 0;
    const bool of_images = model.reads_images();
    require(!of_images || file.has(prefix + "pixel_values"), ErrorCode::kInvalidInput,
            file.source(), ": tensor \"", prefix,
            "pixel_values\" is missing: prepared images, [images, channels, height, width]");
    if (!of_images && !prefix.empty() && !file.has(prefix + "input_ids"))
      for (const std::string& name : names)
        if (const Shape& shape = file.at(prefix + name).shape(); shape.rank() == 3)
          rows = shape[0], length = shape[1];
    const TokenBatch batch = read_inputs(file, prefix, rows, length, model.spec);
    ForwardOutputs outputs;
    outputs.want_hidden_states = true;
    engine->forward(batch, outputs, ctx);
    for (const std::string& name : names) {
      const Tensor want = to_f32(file.at(prefix + name), prefix + name);
      const bool of_decoder = batch.decoder_length > 0 && !name.starts_with("encoder");
      const std::vector<std::int32_t> mask =
          of_decoder ? decoder_batch(model.spec, batch).mask : batch.mask;
      result.rows.push_back(compare(prefix + name, output_of(name, *engine, outputs, batch, ctx),
                                    want, mask, job.tolerance));
      require(result.rows.back().compared > 0, ErrorCode::kInvalidInput, file.source(), ": \"",
              prefix, name,
              "\": nothing to compare; the attention mask is 0 everywhere, or the tensor is empty");
      result.passed &= result.rows.back().passed();
    }
  }
  return result;
}

}  // namespace quell
