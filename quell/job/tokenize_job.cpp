#include "quell/job/tokenize_job.h"

#include "quell/base/error.h"
#include "quell/text/tokenizer/tokenizer.h"

namespace quell {

void run_tokenize_job(const std::filesystem::path& model_dir, std::istream& in, std::ostream& out) {
  const Tokenizer tokenizer = Tokenizer::open(model_dir);
  for (std::string line; std::getline(in, line);) {
    out << Json(tokenizer.encode(line).ids).dump() << '\n';
    require(out.good(), ErrorCode::kIo, "cannot write the output; is the disk full?");
  }
}

}  // namespace quell
