# shellcheck shell=bash
# The part postgres: a private cluster with the database "sync". Knows no other part.

# Postgres refuses to run as root.
as_postgres() {
  if is_root; then
    setpriv --reuid=postgres --regid=postgres --clear-groups "$@"
  else
    "$@"
  fi
}

# Below DIR, unless the user postgres cannot get there (a checkout in a private home folder): then in the
# folder for temporary files. Where it is, is remembered in DIR.
postgres_home() {
  local base home
  if [[ ! -e $DIR/postgres.home ]]; then
    if as_postgres test -x "$DIR"; then
      home=$DIR/postgres
      mkdir -p "$home"
    else
      for base in "${TMPDIR:-/tmp}" /tmp; do
        as_postgres test -x "$base" && break
      done
      home=$(mktemp -d "$base/$(stack_id).XXXXXX") || exit 1
    fi
    chmod 700 "$home"
    if is_root; then chown postgres: "$home"; fi
    echo "$home" >"$DIR/postgres.home"
  fi
  cat "$DIR/postgres.home"
}

postgres_prepare() {
  local home bin password
  home=$(postgres_home)
  bin=$(postgres_bin)
  [[ -e $home/data ]] && return
  password=$(random_hex 16)
  echo "$password" >"$DIR/postgres.password"
  rm -rf "$home/new"
  # In a file that is the user's own: on a command line every user of the machine could read it.
  echo "$password" | as_postgres tee "$home/password" >/dev/null
  {
    (cd / && as_postgres "$bin/initdb" -D "$home/new" --username=postgres --encoding=UTF8 --locale=C.UTF-8 \
      --auth=scram-sha-256 --pwfile="$home/password" --no-instructions) &&
      as_postgres "$bin/postgres" --single -D "$home/new" postgres <<<'CREATE DATABASE sync'
  } >>"$DIR/postgres.log" 2>&1 9>&- || { last_lines "$DIR/postgres.log"; die "initdb failed"; }
  # Whoever may connect at all (listen_addresses) needs the password.
  echo 'host all all all scram-sha-256' | as_postgres tee -a "$home/new/pg_hba.conf" >/dev/null
  # Only a complete cluster gets the name that counts.
  mv "$home/new" "$home/data"
}

# cluster_name puts the tag into the title of each of its processes. Shared memory in a file of the data
# folder: nothing of it is left behind in /dev/shm after a KILL. No Unix socket: its path could be too long.
postgres_launch() {
  local home
  home=$(postgres_home)
  postgres_forget_crash "$home"
  launch_as_postgres "$(postgres_bin)/postgres" -D "$home/data" -p "$(port postgres)" \
    -c cluster_name="$(tag postgres)" -c listen_addresses="$(bind_address)" -c unix_socket_directories= \
    -c max_connections=300 -c dynamic_shared_memory_type=mmap -c fsync=on
}

launch_as_postgres() {
  if is_root; then
    launch postgres setpriv --reuid=postgres --regid=postgres --clear-groups "$@"
  else
    launch postgres "$@"
  fi
}

postgres_ready() { "$(postgres_bin)/pg_isready" -q -h 127.0.0.1 -p "$(port postgres)" -U postgres -d sync; }

postgres_remove() {
  local home
  [[ -e $DIR/postgres.home ]] || return 0
  home=$(cat "$DIR/postgres.home")
  postgres_forget_crash "$home"
  [[ -z $home ]] || rm -rf "$home"
}

# Only when no process of the part is left. After a KILL Postgres would refuse to start for as long as the
# dead process waits for init to collect it, and the kernel keeps a few bytes of shared memory.
postgres_forget_crash() { # HOME
  local lock=$1/data/postmaster.pid shm
  [[ -e $lock ]] || return 0
  shm=$(awk 'NR == 7 {print $2}' "$lock")
  [[ -z $shm ]] || ipcrm -m "$shm" 2>/dev/null || true
  rm -f "$lock"
}
