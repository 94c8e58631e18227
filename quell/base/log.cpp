#include "quell/base/log.h"

#include <mutex>
#include <set>
#include <utility>

#include "quell/base/mute_log.h"

namespace quell {
namespace {
LogSink& sink() {
  static LogSink instance;
  return instance;
}

int& mutes() {
  static int count = 0;
  return count;
}

std::mutex once_mutex;

std::set<std::string>& said_once() {
  static std::set<std::string> messages;
  return messages;
}

}  // namespace

void set_log_sink(LogSink new_sink) {
  sink() = std::move(new_sink);
  const std::lock_guard lock(once_mutex);
  said_once().clear();
}

void log(LogLevel level, const std::string& message) {
  if (sink() && mutes() == 0) sink()(level, message);
}

void log_once(LogLevel level, const std::string& message) {
  if (mutes() > 0) return;
  {
    const std::lock_guard lock(once_mutex);
    if (!said_once().insert(message).second) return;
  }
  log(level, message);
}

MuteLog::MuteLog() { ++mutes(); }
MuteLog::~MuteLog() { --mutes(); }

}  // namespace quell
