// What pages in one file have in common: colours for light and dark, tables, text as HTML.
#pragma once

#include <string>

namespace quell {

/// `text` as HTML shows it, between tags and in quoted attributes.
std::string escape_html(const std::string& text);

/// A page that needs no other file, no script and no network. `title` is text; `style` (CSS behind
/// that of all pages) and `body` are written as they are.
std::string html_page(const std::string& title, const std::string& style, const std::string& body);

}  // namespace quell
