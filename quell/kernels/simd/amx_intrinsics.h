// The macros of amx_tiles.h as instructions; QUELL_TILE_DP is the includer's.
#pragma once

#include <immintrin.h>

// g++ 12 does not see that tile loads read memory: a barrier in front of them.
#define QUELL_TILE_CONFIG(config)    \
  __asm__ volatile("" ::: "memory"); \
  _tile_loadconfig(config)
#define QUELL_TILE_ZERO(t) _tile_zero(t)
#define QUELL_TILE_LOAD(t, p, stride) _tile_loadd(t, p, stride)
#define QUELL_TILE_STORE(t, p, stride) \
  _tile_stored(t, p, stride);          \
  __asm__ volatile("" ::: "memory")
