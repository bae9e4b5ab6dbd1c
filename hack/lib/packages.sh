# shellcheck shell=bash
# Gets the programs that come as distribution packages. Installs only on Debian/Ubuntu as root; everybody
# else is told the command to type. It never starts a service of the system.

postgres_bin() {
  local found
  found=$(find /usr/lib/postgresql -mindepth 2 -maxdepth 2 -name bin 2>/dev/null | sort -V | tail -n 1)
  [[ -n $found ]] || found=$(pg_config --bindir 2>/dev/null) || true
  [[ -x $found/initdb && -x $found/postgres ]] && echo "$found"
}

rabbitmq_bin() {
  # Not the wrapper in /usr/sbin: that changes to the user rabbitmq and drops our settings.
  local path
  for path in /usr/lib/rabbitmq/bin/rabbitmq-server "$(command -v rabbitmq-server)"; do
    [[ -x $path ]] && echo "$path" && return
  done
  return 1
}

postgres_package() {
  if apt-cache show postgresql-15 >/dev/null 2>&1; then echo postgresql-15; else echo postgresql; fi
}

# The package name for a program, where the two differ.
package_for() {
  case $1 in
    postgres | pgbench) postgres_package ;;
    rabbitmq) echo rabbitmq-server ;;
    psql) echo postgresql-client ;;
    python3 | venv) echo python3-venv ;;
    flock | setsid | nsenter) echo util-linux ;;
    cni) echo containernetworking-plugins ;;
    nft) echo nftables ;;
    ip) echo iproute2 ;;
    pgrep) echo procps ;;
    *) echo "$1" ;;
  esac
}

has_program() {
  case $1 in
    postgres) postgres_bin >/dev/null ;;
    rabbitmq) rabbitmq_bin >/dev/null ;;
    cni) [[ -x /usr/lib/cni/bridge ]] ;;
    libfaketime) compgen -G '/usr/lib/*/faketime/libfaketimeMT.so.1' >/dev/null ;;
    venv) python3 -c 'import venv, ensurepip' >/dev/null 2>&1 ;;
    *) command -v "$1" >/dev/null ;;
  esac
}

ensure_programs() { # PROGRAM…
  local program packages=() missing=()
  for program in "$@"; do has_program "$program" || missing+=("$program"); done
  ((${#missing[@]})) || return 0

  if ! command -v apt-get >/dev/null; then
    die "missing on this machine: ${missing[*]}. Install them with your package manager and try again."
  fi
  if ! is_root; then
    for program in "${missing[@]}"; do packages+=("$(package_for "$program")"); done
    die "missing on this machine: ${missing[*]}. Type: sudo apt-get install --no-install-recommends ${packages[*]}"
  fi
  say "updating the package lists (apt-get update) …"
  apt-get update -qq </dev/null >/dev/null || say "apt-get update failed; going on with the lists that are there"
  for program in "${missing[@]}"; do packages+=("$(package_for "$program")"); done
  say "installing Debian packages: ${packages[*]} …"
  without_services env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends "${packages[@]}" </dev/null >/dev/null ||
    die "apt-get could not install ${packages[*]}; its own words are above"
  for program in "${missing[@]}"; do
    has_program "$program" || die "$program is still missing after the packages ${packages[*]} were installed"
  done
}

# The packages of servers start them on well-known ports of all addresses; we only want the programs.
without_services() {
  local policy=/usr/sbin/policy-rc.d
  if [[ -e $policy ]]; then
    "$@"
    return
  fi
  (
    trap 'rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
    "$@"
  )
}
