#!/usr/bin/env bash
# Installs the Debian 12 packages that a group of tools needs, and says which. usage: tools/install_packages.sh build|ci|train ...
set -euo pipefail
build=(g++ cmake ninja-build nlohmann-json3-dev libcli11-dev libyaml-cpp-dev libicu-dev libonig-dev libdnnl-dev
  libpng-dev libjpeg-dev zlib1g-dev libgtest-dev libbenchmark-dev)
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
export DEBIAN_FRONTEND=noninteractive
as_root() { if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo --preserve-env=DEBIAN_FRONTEND "$@"; fi; }

# An installation that was stopped half way (a closed terminal, a machine switched off) leaves dpkg refusing everything that follows. What
# was unpacked is configured, and what was broken off while unpacking is fetched again.
mend_interrupted_installation() {
  if [ -z "$(ls /var/lib/dpkg/updates)" ] && [ -z "$(dpkg --audit)" ]; then return; fi
  echo "mending an installation of packages that was interrupted"

  as_root dpkg --configure -a >/dev/null 2>&1 || true
  mapfile -t broken < <(dpkg-query -W -f='${db:Status-Eflag} ${Package}\n' | sed -n 's/^reinstreq //p')
  [ ${#broken[@]} -eq 0 ] || as_root apt-get install -y -qq --reinstall "${broken[@]}" >/dev/null
  as_root apt-get install -y -qq --fix-broken >/dev/null
}

as_root apt-get update -qq
mend_interrupted_installation
as_root apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
