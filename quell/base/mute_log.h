// Work that is only tried says nothing.
#pragma once

namespace quell {

/// While one lives, messages (log.h) go nowhere. Not thread-safe, as the receiver is not.
class MuteLog {
 public:
  MuteLog();
  ~MuteLog();
  MuteLog(const MuteLog&) = delete;
  MuteLog& operator=(const MuteLog&) = delete;
};

}  // namespace quell
