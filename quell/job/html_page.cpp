#include "quell/job/html_page.h"

namespace quell {
namespace {

constexpr const char* kPageStyle = R"(
:root{--ink:#1d2433;--soft:#5b6577;--line:#dfe3ea;--paper:#fff;--tint:#f5f7fa;--bad:#c2410c;--good:#2563a8;--fade:#b9c4d4}
@media(prefers-color-scheme:dark){:root{--ink:#e6e9ef;--soft:#9aa5b8;--line:#323a49;--paper:#161a22;--tint:#1e2430;--bad:#f08a4b;--good:#6aa6e8;--fade:#4a566a}}
*{box-sizing:border-box}body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);margin:0 auto;max-width:1080px;padding:32px 24px}
h1{font-size:26px;margin:0}h2{font-size:18px;margin:36px 0 8px}p,li{max-width:75ch}.soft{color:var(--soft)}
.figures{display:flex;flex-wrap:wrap;gap:12px;margin:20px 0}.figures div{background:var(--tint);border:1px solid var(--line);border-radius:8px;padding:10px 16px}
.figures b{display:block;font-size:20px;font-variant-numeric:tabular-nums}
code,pre{background:var(--tint);border:1px solid var(--line);border-radius:4px;padding:1px 4px;font-size:13px;overflow-wrap:anywhere}
pre{padding:10px 12px;white-space:pre-wrap}.wide{overflow-x:auto}table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums;font-size:13px}
th,td{text-align:right;padding:4px 6px;border-bottom:1px solid var(--line);vertical-align:bottom;overflow-wrap:anywhere}th:first-child,td:first-child,td.text,th.text{text-align:left}
th{color:var(--soft);font-weight:600}details{border-bottom:1px solid var(--line);padding:6px 0}summary{cursor:pointer}
svg{display:block;max-width:100%;height:auto}svg text{fill:var(--soft);font:11px system-ui,sans-serif}.axis{stroke:var(--line)}
)";

}  // namespace

std::string escape_html(const std::string& text) {
  std::string out;
  for (const char c : text) switch (c) {
      case '&': out += "&amp;"; break;
      case '<': out += "&lt;"; break;
      case '>': out += "&gt;"; break;
      case '"': out += "&quot;"; break;
      default: out += c;
    }
  return out;
}

std::string html_page(const std::string& title, const std::string& style, const std::string& body) {
  const std::string escaped = escape_html(title);
  return "<!doctype html>\n<html lang=en><head><meta charset=utf-8><meta name=viewport "
         "content=\"width=device-width\"><title>" +
         escaped + "</title><style>" + kPageStyle + style + "</style></head><body>\n<h1>" +
         escaped + "</h1>\n" + body + "</body></html>\n";
}

}  // namespace quell
