#include "quell/job/calibration_check.h"

#include <algorithm>
#include <string_view>
#include <unordered_set>

#include "quell/base/error.h"
#include "quell/base/log.h"
#include "quell/io/mapped_file.h"
#include "quell/text/data/text_file.h"

namespace quell {
namespace {
namespace fs = std::filesystem;

constexpr std::int64_t kHandful = 32;  // fewer samples than this leave ranges to chance
constexpr std::size_t kRun = 12;       // tokens in a row that two texts share by no chance

/// Of kRun tokens, or of a whole sequence (FNV-1a).
std::uint64_t hash_of(const std::int32_t* ids, std::size_t count) {
  std::uint64_t h = 14695981039346656037ULL;
  for (std::size_t i = 0; i < count; ++i)
    h = (h ^ static_cast<std::uint32_t>(ids[i])) * 1099511628211ULL;
  return h;
}

bool same_file(const fs::path& a, const fs::path& b) {
  std::error_code ec;
  if (fs::equivalent(a, b, ec)) return true;
  const auto size = fs::file_size(a, ec);
  if (ec || fs::file_size(b, ec) != size || ec) return false;

  const MappedFile first(a), second(b);
  return std::equal(first.bytes().begin(), first.bytes().end(), second.bytes().begin(),
                    second.bytes().end());
}

/// Whether rows [begin, begin + count) of both can be the same (counts of 0: all that follow).
bool ranges_meet(std::int64_t begin_a, std::int64_t count_a, std::int64_t begin_b,
                 std::int64_t count_b) {
  const bool a_before_b = count_a > 0 && begin_a + count_a <= begin_b,
             b_before_a = count_b > 0 && begin_b + count_b <= begin_a;
  return !a_before_b && !b_before_a;
}

/// What a task's model reads; SQuAD's texts are tokenized only when they are scored.
std::vector<TokenSequence> sequences_of(const EvalSet& set) {
  if (set.squad.questions.empty()) return set.sequences;
  std::vector<TokenSequence> out;
  for (const SquadQuestion& q : set.squad.questions)
    for (const std::string& text : {q.question, unicode::encode(q.context)})
      out.push_back({set.tokenizer->encode(text).ids, {}, {}});
  return out;
}

}  // namespace

std::string table_in(const std::string& text) {
  constexpr std::size_t kLooked = 50;
  std::vector<std::string> lines;
  for (std::string& line : split_lines(text)) {
    if (lines.size() == kLooked) break;
    if (line.find_first_not_of(" \t") != std::string::npos) lines.push_back(std::move(line));
  }
  if (lines.size() < 2) return "";

  const auto all = [&](const auto& holds) {
    return std::all_of(lines.begin(), lines.end(), holds);
  };
  if (all([](const std::string& l) { return l.starts_with('{') && l.ends_with('}'); }))
    return "JSON objects, which .jsonl is for";
  const auto tabs = [](const std::string& l) { return std::count(l.begin(), l.end(), '\t'); };
  if (tabs(lines[0]) > 0 && all([&](const std::string& l) { return tabs(l) == tabs(lines[0]); }))
    return "columns between tabs, which .tsv and --text-column are for";

  // Commas are in every text: a header without spaces, and as many fields in every row.
  const std::size_t comma = lines[0].find(',');
  if (comma == std::string::npos || lines[0].find(' ') != std::string::npos) return "";
  std::string table;
  for (const std::string& line : lines) table += line + "\n";
  try {
    const std::vector<TableRow> rows = split_commas(table, "");
    const std::size_t fields = rows.front().fields.size();
    if (std::all_of(rows.begin(), rows.end(),
                    [&](const TableRow& r) { return r.fields.size() == fields; }))
      return "columns between commas, which .csv and --text-column are for";
  } catch (const Error&) {  // a quote that stands alone: no table
  }
  return "";
}

void check_calibration_data(const CalibrationChoice& choice, const Dataset& data,
                            const std::vector<TokenSequence>& samples) {
  const std::string table = table_in(data.raw_text);
  if (!table.empty())
    log(LogLevel::kWarning,
        data.source + ": its lines, read as text one by one, look like " + table);
  if (!choice.data.columns.text.empty() && (data.holds_ids || !data.raw_text.empty()))
    log(LogLevel::kWarning, data.source + ": has no columns, so --text-column is not looked at");

  const auto count = static_cast<std::int64_t>(samples.size());
  if (count < std::min(kHandful, choice.num_samples))
    log(LogLevel::kWarning,
        str(data.source, ": only ", count, " samples; ranges measured on fewer than ", kHandful,
            " are left to chance, 128 are usual"));
}

std::int64_t count_shared_samples(const std::vector<TokenSequence>& samples,
                                  const std::vector<TokenSequence>& evaluated) {
  std::unordered_set<std::uint64_t> runs, wholes;
  for (const TokenSequence& s : evaluated) {
    wholes.insert(hash_of(s.ids.data(), s.ids.size()));
    for (std::size_t i = 0; i + kRun <= s.ids.size(); ++i)
      runs.insert(hash_of(s.ids.data() + i, kRun));
  }
  return std::count_if(samples.begin(), samples.end(), [&](const TokenSequence& s) {
    if (wholes.contains(hash_of(s.ids.data(), s.ids.size()))) return true;
    std::size_t all = 0, found = 0;
    for (std::size_t i = 0; i + kRun <= s.ids.size(); ++i, ++all)
      found += runs.contains(hash_of(s.ids.data() + i, kRun)) ? 1 : 0;
    return found > 0 && 2 * found > all;
  });
}

void check_calibration_against(const CalibrationChoice& choice,
                               const std::vector<TokenSequence>& samples,
                               const EvalOptions& options, const DataChoice& eval_data,
                               const EvalSet& set) {
  const char* advice =
      ": the figures look better than they are on other texts; keep the two apart "
      "(--calibration-skip, --skip, --limit)";
  const std::int64_t shared = count_shared_samples(samples, sequences_of(set));
  if (shared > 0)
    return log(LogLevel::kWarning,
               str(choice.data.file.string(), ": ", shared, " of ", samples.size(),
                   " calibration samples are in the evaluation data", advice));

  // Prompts and pairs may hide what is the same; windows of running text cannot.
  const std::int64_t used = choice.sampling == Sampling::kFirst ? choice.num_samples : 0;
  if (!is_perplexity(options.task) && ranges_meet(choice.skip, used, options.skip, options.limit) &&
      same_file(choice.data.file, eval_data.file))
    log(LogLevel::kWarning, choice.data.file.string() + ": is also the evaluation data" + advice);
}

}  // namespace quell
