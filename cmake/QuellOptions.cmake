# Compiler options shared by all of our targets.
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release)
endif()
# -O3 is for the loops over numbers (quell/CMakeLists.txt); elsewhere it costs time to compile and brings none back.
string(REPLACE "-O3" "-O2" CMAKE_CXX_FLAGS_RELEASE "${CMAKE_CXX_FLAGS_RELEASE}")

# What only arranges work and words its results is hardly optimized. GCC 12 then sees writes beyond the end of std::string that are none.
add_library(quell_light_options INTERFACE)
target_compile_options(quell_light_options INTERFACE $<$<CONFIG:Release>:-O1>
  $<$<AND:$<CONFIG:Release>,$<CXX_COMPILER_ID:GNU>>:-Wno-array-bounds>)

add_library(quell_options INTERFACE)
target_compile_options(quell_options INTERFACE -Wall -Wextra -Wconversion -Werror
  # Results must not depend on which multiply-adds the compiler fuses (docs/numerics.md).
  -ffp-contract=off -fno-math-errno -fno-trapping-math)
# Vectors wider than the baseline's registers are passed between inlined functions only.
target_compile_options(quell_options INTERFACE -Wno-psabi)
# A false alarm of GCC 12 on std::string (GCC bug 105651).
target_compile_options(quell_options INTERFACE $<$<CXX_COMPILER_ID:GNU>:-Wno-restrict>)
if(QUELL_SANITIZE)
  set(sanitizers -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer)
  target_compile_options(quell_options INTERFACE ${sanitizers})
  target_link_options(quell_options INTERFACE ${sanitizers})
  # GCC's flow analysis is confused by the instrumentation (false alarms inside <regex>).
  target_compile_options(quell_options INTERFACE $<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized>)
endif()
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  target_compile_definitions(quell_options INTERFACE QUELL_X86_64)
  set(QUELL_X86_64 ON)
endif()
