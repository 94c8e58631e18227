#!/usr/bin/env bash
# Installs the Debian 12 packages that a group of tools needs, and says which. usage: tools/install_packages.sh build|ci|train ...
set -euo pipefail
build=(g++ cmake ninja-build nlohmann-json3-dev libcli11-dev libyaml-cpp-dev libicu-dev libonig-dev libdnnl-dev libgtest-dev libbenchmark-dev)
ci=(clang-format-14)
train=(libtorch-dev libopenblas0-pthread)
missing=()
for group in "$@"; do
  declare -n packages=$group
  for package in "${packages[@]}"; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing+=("$package")
  done
done
[ ${#missing[@]} -eq 0 ] && exit 0
echo "installing Debian packages: ${missing[*]}"
sudo=""
[ "$(id -u)" -eq 0 ] || sudo=sudo
$sudo apt-get update -qq
DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
