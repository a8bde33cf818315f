# shellcheck shell=bash disable=SC2034
# What scripts/test and scripts/demo share: sourced, not run. Needs bash and coreutils, on Debian
# also dpkg and apt. Changes to the root of the tree.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly kMissing=77 kUsage=64  # Exit codes, as those of crashworthy.

say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }

# packages_of TIER...: the names in scripts/packages, one a line.
packages_of() {
  local tier package rest
  while read -r tier package rest; do
    if [[ " $* " == *" $tier "* ]]; then printf '%s\n' "$package"; fi
  done <scripts/packages
}

# need_packages TIER...: installs what is missing; without root names it and ends with 77.
need_packages() {
  if ! command -v dpkg-query >/dev/null; then
    say "no dpkg here: not checking for the libraries in scripts/packages"
    return
  fi
  local package missing=()
  for package in $(packages_of "$@"); do
    if [[ $(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null) != installed* ]]; then
      missing+=("$package")
    fi
  done
  if ((${#missing[@]} == 0)); then return; fi
  # --no-remove: where another Boost is installed, apt must stop rather than remove it.
  local install=(apt-get install --no-install-recommends --no-remove "${missing[@]}")
  if ((EUID != 0)); then
    say "missing packages: ${missing[*]}"
    say "  try, as root: apt-get update && ${install[*]}"
    exit "$kMissing"
  fi
  say "installing ${missing[*]}"
  export DEBIAN_FRONTEND=noninteractive
  if ! { apt-get -q update && "${install[@]}" -q -y -o DPkg::Lock::Timeout=120; } >&2; then
    say "unable to install ${missing[*]}"
    say "  where apt names a conflict (libboost-dev and libboost1.74-dev have one with" \
      "libboost1.81-dev), remove that package first"
    exit "$kMissing"
  fi
}

# build PRESET [CMAKE_OPTION...]: configures and builds in build/PRESET; returns what cmake returns.
build() {
  say "building the preset $1 in build/$1"
  cmake --preset "$@" >&2 && cmake --build --preset "$1" >&2
}
