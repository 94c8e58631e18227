// Messages for people. Libraries only hand them over; whoever runs the program decides where they
// go.
#pragma once

#include <functional>
#include <string>

namespace quell {

enum class LogLevel { kDebug, kInfo, kWarning };

using LogSink = std::function<void(LogLevel, const std::string&)>;

/// Replaces the receiver of all messages (none by default). Not thread-safe: set it before work
/// starts.
void set_log_sink(LogSink sink);
void log(LogLevel level, const std::string& message);
/// The same message is handed over once until the receiver is replaced: a model is read several
/// times in one run.
void log_once(LogLevel level, const std::string& message);

}  // namespace quell
