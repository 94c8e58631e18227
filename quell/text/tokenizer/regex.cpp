#include "quell/text/tokenizer/regex.h"

#include <oniguruma.h>

#include <mutex>
#include <optional>

#include "quell/base/error.h"
#include "quell/text/tokenizer/linear_pattern.h"
#include "quell/text/tokenizer/pattern_rewriter.h"
#include "quell/text/tokenizer/steps.h"

namespace quell {

struct Regex::Impl {
  regex_t* regex = nullptr;
  std::optional<LinearPattern> linear;  ///< in its stead where the pattern allows
  ~Impl() { onig_free(regex); }
};

namespace {

const OnigUChar* bytes(const char32_t* p) { return reinterpret_cast<const OnigUChar*>(p); }

/// Bounds the work of patterns that backtrack without end.
struct MatchParam {
  OnigMatchParam* param = onig_new_match_param();
  explicit MatchParam(std::size_t length) {
    onig_initialize_match_param(param);
    onig_set_retry_limit_in_match_of_match_param(param, 1000000);
    onig_set_retry_limit_in_search_of_match_param(param, 1000000 + 100 * length);
  }
  MatchParam(const MatchParam&) = delete;
  MatchParam& operator=(const MatchParam&) = delete;
  ~MatchParam() { onig_free_match_param(param); }
};

struct Region {
  OnigRegion* region = onig_region_new();
  Region() = default;
  Region(const Region&) = delete;
  Region& operator=(const Region&) = delete;
  ~Region() { onig_region_free(region, 1); }
};

}  // namespace

Regex::Regex(std::string_view pattern) : impl_(std::make_unique<Impl>()) {
  static std::once_flag once;
  std::call_once(once, [] {
    OnigEncoding encodings[] = {ONIG_ENCODING_UTF32_LE};
    onig_initialize(encodings, 1);
  });
  const std::u32string stated = unicode::decode(pattern);
  const std::u32string p = rewrite_pattern(stated, true);
  OnigErrorInfo info;
  const int status = onig_new(&impl_->regex, bytes(p.data()), bytes(p.data() + p.size()),
                              ONIG_OPTION_NONE, ONIG_ENCODING_UTF32_LE, ONIG_SYNTAX_DEFAULT, &info);
  require(status == ONIG_NORMAL, ErrorCode::kInvalidInput, "tokenizer: pattern ", pattern,
          " does not compile (Oniguruma ", status, ")");
  impl_->linear = LinearPattern::compile(rewrite_pattern(stated, false));
}
Regex::Regex(Regex&&) noexcept = default;
Regex& Regex::operator=(Regex&&) noexcept = default;
Regex::~Regex() = default;

Regex Regex::literal(std::string_view text) {
  std::string pattern;
  for (const char c : text) {
    if (std::string_view(R"(\.+*?()|[]{}^$#&-~)").find(c) != std::string_view::npos)
      pattern.push_back('\\');
    pattern.push_back(c);
  }
  return Regex(pattern);
}

Regex Regex::by_oniguruma(std::string_view pattern) {
  Regex regex(pattern);
  regex.impl_->linear.reset();
  return regex;
}

bool Regex::is_linear() const { return impl_->linear.has_value(); }

void Regex::for_each_match(std::u32string_view text,
                           const std::function<void(CharRange)>& f) const {
  if (impl_->linear) return impl_->linear->for_each_match(text, f);

  const Region region;
  const MatchParam param(text.size());
  const OnigUChar *begin = bytes(text.data()), *end = bytes(text.data() + text.size());
  pattern_steps() += text.size();
  int status = 0;
  std::optional<std::size_t> last_end;
  for (std::size_t at = 0; at <= text.size();) {
    status = onig_search_with_param(impl_->regex, begin, end, begin + 4 * at, end, region.region,
                                    ONIG_OPTION_NONE, param.param);
    if (status < 0) break;
    const CharRange match{static_cast<std::size_t>(region.region->beg[0]) / 4,
                          static_cast<std::size_t>(region.region->end[0]) / 4};
    // An empty match directly behind another one does not count.
    const bool counts = match.size() > 0 || last_end != match.end;
    if (counts) {
      f(match);
      last_end = match.end;
    }
    at = match.size() > 0 ? match.end : match.end + 1;
  }
  require(status >= ONIG_MISMATCH, ErrorCode::kInvalidInput,
          "tokenizer: pattern search gave up (Oniguruma ", status, ")");
}

}  // namespace quell
