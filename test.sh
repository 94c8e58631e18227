#!/usr/bin/env bash
# Installs what is missing, builds, and runs all tests. Data for the larger ones is looked for in $QUELL_DATA (default ../shared); without it
# they skip, and the selection in tests/golden is used.
set -euo pipefail
cd "$(dirname "$0")"
tools/install_packages.sh build

# What trains models is built and tested where libtorch is installed (tools/install_packages.sh train).
train=OFF
if dpkg-query -W -f='${Status}' libtorch-dev 2>/dev/null | grep -q 'install ok installed'; then train=ON; fi

cmake --preset release -DQUELL_BUILD_TESTS=ON -DQUELL_BUILD_TRAIN="$train" >/dev/null
cmake --build --preset release
ctest --test-dir build/release --output-on-failure -j "$(nproc)" "$@"
