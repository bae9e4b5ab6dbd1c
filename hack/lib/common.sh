# shellcheck shell=bash
# What every script in hack/ shares: how they speak, and how they tell their own processes from others.
# Sourced, never run. It starts nothing and writes nothing.

# The name in front of each line says which of the scripts is speaking.
say() { printf '%s: %s\n' "$ME" "$*" >&2; }
die() { say "$@"; exit 1; }

is_root() { [[ $(id -u) == 0 ]]; }

random_hex() { od -An -N"$1" -tx1 /dev/urandom | tr -d ' \n'; }

# A process is known by a tag which it carries in its environment or on its command line, not by a pid file
# alone: after a restart of the machine the pid may belong to somebody else. The pattern comes by standard
# input, so that grep itself does not carry the tag.
pids_tagged() {
  # shellcheck disable=SC2062 # a list of files, not a pattern
  grep -lsaF -f - /proc/[0-9]*/environ /proc/[0-9]*/cmdline <<<"$1" | cut -d/ -f3 | sort -un
}

is_tagged() { # PID TAG
  [[ -n $1 ]] && grep -qsaF -f - "/proc/$1/environ" "/proc/$1/cmdline" <<<"$2"
}

# A zombie has ended, it only waits for its parent to look: unless threads of it are still on their way out
# and hold its ports.
is_alive() { # PID
  local stat tasks
  { read -r stat <"/proc/$1/stat"; } 2>/dev/null || return 1
  [[ ${stat##*) } == [ZX]* ]] || return 0
  tasks=("/proc/$1/task"/*)
  ((${#tasks[@]} > 1))
}

none_alive() { # PID…
  local pid
  for pid in "$@"; do ! is_alive "$pid" || return 1; done
}

# The standard error of kill is dropped because a process may end between being listed and being signalled.
signal_tagged() { # TAG SIGNAL
  local pids
  mapfile -t pids < <(pids_tagged "$1")
  ((${#pids[@]} == 0)) || kill -s "$2" "${pids[@]}" 2>/dev/null || true
}

# Whether every thread of every process is stopped.
is_frozen() { # TAG
  local pid pids
  mapfile -t pids < <(pids_tagged "$1")
  ((${#pids[@]} > 0)) || return 1
  for pid in "${pids[@]}"; do
    awk '/^State:/ && $2 != "T" { exit 1 }' "/proc/$pid/task"/*/status 2>/dev/null || return 1
  done
}

none_tagged() { [[ -z $(pids_tagged "$1") ]]; }

# Waits for the event itself: COMMAND is asked again until it says yes or SECONDS are over.
wait_until() { # SECONDS COMMAND…
  local deadline=$((SECONDS + $1))
  shift
  until "$@"; do
    ((SECONDS < deadline)) || return 1
    sleep 0.1
  done
}

# Asks politely, then not: a stopped process could not hear TERM, so it is woken up.
end_tagged() { # TAG SIGNAL SECONDS
  local pids
  mapfile -t pids < <(pids_tagged "$1")
  # shellcheck disable=SC2317 # wait_until calls it
  all_gone() { none_tagged "$1" && none_alive ${pids[@]+"${pids[@]}"}; }
  signal_tagged "$1" "$2"
  [[ $2 == KILL ]] || signal_tagged "$1" CONT
  wait_until "$3" all_gone "$1" && return
  signal_tagged "$1" KILL
  wait_until 10 all_gone "$1" && return
  say "these processes did not end even by KILL: $(pids_tagged "$1" | xargs)"
  return 1
}

# Below the range from which the kernel takes ports for outgoing connections: a port there stays free while
# its server is down, so that the server can come back on it.
free_port() {
  local port
  while :; do
    port=$((15000 + (RANDOM * 32768 + RANDOM) % 17000))
    (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || break
  done
  echo "$port"
}

answers() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# The proxy of the person is of no use for a server on this machine.
curl_local() { curl --noproxy '*' --silent --max-time 5 "$@"; }

last_lines() { # FILE
  say "the last lines of $1:"
  tail -n 20 "$1" 2>/dev/null | sed 's/^/  | /' >&2
}
