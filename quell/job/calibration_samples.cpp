#include "quell/job/calibration_samples.h"

#include <algorithm>
#include <numeric>

#include "quell/base/error.h"
#include "quell/base/random.h"
#include "quell/eval/image_classification.h"
#include "quell/job/calibration_check.h"
#include "quell/job/export_message.h"
#include "quell/job/memory_estimate.h"
#include "quell/job/model_options.h"
#include "quell/model/image_input.h"
#include "quell/model/text_encoder.h"
#include "quell/vision/preprocessor_config.h"

namespace quell {
namespace {

constexpr std::int64_t kDefaultLength = 512;

std::vector<TokenSequence> cut_stream(const std::vector<std::int32_t>& ids, std::int64_t length) {
  std::vector<TokenSequence> out;
  for (std::size_t at = 0; at + static_cast<std::size_t>(length) <= ids.size();
       at += static_cast<std::size_t>(length))
    out.push_back({{ids.begin() + static_cast<std::ptrdiff_t>(at),
                    ids.begin() + static_cast<std::ptrdiff_t>(at) + length},
                   {},
                   {}});
  return out;
}

/// Which of `size` samples are used, in what order.
std::vector<std::int64_t> chosen(const CalibrationChoice& choice, std::int64_t size,
                                 const std::string& source) {
  require(choice.skip < size, ErrorCode::kUsage, source, ": --calibration-skip ", choice.skip,
          " leaves nothing of ", size, " samples");
  std::vector<std::int64_t> out(static_cast<std::size_t>(size - choice.skip));
  std::iota(out.begin(), out.end(), choice.skip);
  if (choice.sampling == Sampling::kRandom) Random(choice.seed).shuffle(out);
  if (static_cast<std::int64_t>(out.size()) > choice.num_samples)
    out.resize(static_cast<std::size_t>(choice.num_samples));
  return out;
}

CalibrationSamples load_sequences(const CalibrationChoice& choice, const Model& model) {
  Dataset data = read_dataset(choice.data.file, choice.data.columns, LabelUse::kIgnore);
  const std::int64_t context = model.spec.max_position_embeddings;
  const std::int64_t length = std::min(choice.max_seq_length > 0  ? choice.max_seq_length
                                       : model.max_seq_length > 0 ? model.max_seq_length
                                                                  : kDefaultLength,
                                       context);
  const PairMode mode = model.sentence.defined() ? PairMode::kSeparate : PairMode::kPair;
  CalibrationSamples out;
  std::vector<TokenSequence>& all = out.sequences;
  if (!data.stream.empty()) {
    all = cut_stream(data.stream, length);
    require(!all.empty(), ErrorCode::kInvalidInput, data.source, ": ", data.stream.size(),
            " tokens are fewer than one sample of ", length, "; lower --max-seq-length");
  } else {
    const std::shared_ptr<Tokenizer> tokenizer = open_tokenizer_for(data, model);
    if (mode == PairMode::kSeparate) prepend_default_prompt(model, data);
    all = tokenize_examples(data, tokenizer.get(), mode, length, EmptyRows::kLeaveOut);
    if (mode == PairMode::kSeparate) note_default_prompt(model, tokenizer.get(), all);
    out.tokenizer = tokenizer;
  }
  std::vector<TokenSequence> used;
  for (const std::int64_t i : chosen(choice, std::ssize(all), data.source))
    used.push_back(std::move(all[static_cast<std::size_t>(i)]));
  all = std::move(used);
  for (const TokenSequence& s : all)
    for (const std::int32_t id : s.ids)
      require(id >= 0 && id < model.spec.vocab_size, ErrorCode::kInvalidInput, data.source,
              ": token id ", id, " is outside the model's vocabulary of ", model.spec.vocab_size);
  check_calibration_data(choice, data, all);
  return out;
}

/// Images are held one by one and in batches, whatever is made of them.
void check_room_for(std::size_t images, const Model& model) {
  const ImageAttributes image = image_input_of(model.graph).value();
  const auto values = static_cast<std::uint64_t>(image.channels * image.size.pixels());
  const std::uint64_t need = 2 * sizeof(float) * values * images;
  const std::uint64_t available = available_memory();
  if (available > 0 && need > available)
    throw Error(ErrorCode::kUsage,
                str(images, " images take ", bytes_text(need), " of memory, of which ",
                    bytes_text(available), " are available; use fewer (--num-samples)"));
}

CalibrationSamples load_images(const CalibrationChoice& choice, const Model& model,
                               ThreadPool& pool) {
  refuse_text_options(model, {{!choice.data.columns.text.empty(), "--text-column"},
                              {!choice.data.columns.label.empty(), "--label-column"},
                              {choice.max_seq_length > 0, "--max-seq-length"}});
  CalibrationSamples out;
  out.source = open_images({.images = choice.data.file, .use = ImageLabels::kIgnore});
  out.positions = chosen(choice, out.source->size(), choice.data.file.string());

  const Preprocessing steps = read_preprocessing(model.dir);
  check_room_for(out.positions.size(), model);
  for (const std::int64_t position : out.positions)
    out.images.push_back(read_image_batch(model, *out.source, position, 1, steps, pool).pixels);
  return out;
}

}  // namespace

std::vector<TokenBatch> CalibrationSamples::batches(const Model& model, std::int64_t begin,
                                                    std::int64_t end,
                                                    std::int64_t batch_size) const {
  if (images.empty()) {
    const std::vector<TokenSequence> part(sequences.begin() + begin, sequences.begin() + end);
    return make_batches(part, static_cast<std::size_t>(batch_size), model.spec.pad_token_id);
  }

  std::vector<TokenBatch> out;
  for (std::int64_t first = begin; first < end; first += batch_size) {
    std::vector<float> pixels;
    for (std::int64_t i = first; i < std::min(end, first + batch_size); ++i) {
      const std::vector<float>& image = images[static_cast<std::size_t>(i)];
      pixels.insert(pixels.end(), image.begin(), image.end());
    }
    out.push_back(make_image_batch(model, std::move(pixels)));
  }
  return out;
}

CalibrationSamples load_calibration(const CalibrationChoice& choice, const Model& model,
                                    ThreadPool& pool) {
  return model.reads_images() ? load_images(choice, model, pool) : load_sequences(choice, model);
}

}  // namespace quell
