# shellcheck shell=bash
# What is the same for every part: its folder, its tag, its ports, starting it and seeing that it is ready.
# A part named x-y brings the functions x_y_prepare (data, once), x_y_launch and x_y_ready.

# Holds the lock of the folder until the script ends: two runs on the same folder take turns. The servers
# do not inherit it.
open_dir() { # DIR [create]
  [[ ${2:-} == create ]] && { mkdir -p "$1" || exit 1; }
  [[ -d $1 ]] || die "there is no stack in $1. Type: hack/stack up $1"
  DIR=$(cd "$1" && pwd)
  if [[ ! -e $DIR/lock && -n $(find "$DIR" -mindepth 1 ! -name lock ! -name 'id*' -print -quit) ]]; then
    die "$DIR is not empty and not a folder of hack/stack: name another one"
  fi
  umask 077
  exec 9>>"$DIR/lock"
  flock 9
  # A "down" that was before us has removed the folder that we wait in.
  if ! [[ $DIR/lock -ef /dev/fd/9 ]]; then
    exec 9>&-
    open_dir "$@"
    return
  fi
  if [[ ! -e $DIR/id ]]; then
    [[ ${2:-} == create ]] || die "there is no stack in $DIR. Type: hack/stack up $DIR"
    echo "sync-stack-$(random_hex 6)" >"$DIR/id.new"
    mv "$DIR/id.new" "$DIR/id"
    # Other users (postgres) may pass through, not look.
    chmod 711 "$DIR"
  fi
}

stack_id() { cat "$DIR/id"; }
tag() { echo "$(stack_id)/$1"; }

# Where the servers are found: on loopback; or, in a network namespace of a cluster, at an address that its
# nodes and pods reach as well.
address() { cat "$DIR/address" 2>/dev/null || echo 127.0.0.1; }
is_shared() { [[ -e $DIR/address ]]; }
bind_address() { if is_shared; then echo 0.0.0.0; else echo 127.0.0.1; fi; }
services() { cat "$DIR/services" 2>/dev/null || echo 10.96.0.0/16; }

is_part() {
  local part
  for part in "${ALL_PARTS[@]}"; do [[ $part == "$1" ]] && return; done
  say "unknown part $1: ${ALL_PARTS[*]} are possible"
  exit 2
}

# The parts in the order of ALL_PARTS, with those that they need.
with_needs() {
  local part wanted=" $* "
  for part in "$@"; do is_part "$part"; done
  [[ $wanted == *" controller-manager "* ]] && wanted+="apiserver "
  [[ $wanted == *" apiserver "* ]] && wanted+="etcd "
  for part in "${ALL_PARTS[@]}"; do
    if [[ $wanted == *" $part "* ]]; then echo "$part"; fi
  done
}

ensure_all_programs() { # PARTS
  local part programs=(flock setsid curl) kube=()
  for part in $1; do
    case $part in
      etcd) kube+=(etcd) ;;
      apiserver) programs+=(openssl); kube+=(kube-apiserver kubectl) ;;
      controller-manager) kube+=(kube-controller-manager) ;;
      *) programs+=("$part") ;;
    esac
  done
  ensure_programs "${programs[@]}"
  ((${#kube[@]} == 0)) || ensure_kube_programs "${kube[@]}"
}

# Chosen once and remembered; a part may have several, which begin with its name.
port() { # NAME
  if [[ ! -e $DIR/$1.port ]]; then
    free_port >"$DIR/$1.port.new"
    mv "$DIR/$1.port.new" "$DIR/$1.port"
  fi
  cat "$DIR/$1.port"
}

# In a session of its own, without our terminal, our lock and our standard input. The tag in the
# environment goes on to every process that it starts.
launch() { # PART COMMAND…
  local part=$1
  shift
  env SYNC_STACK_PART="$(tag "$part")" setsid "$@" </dev/null >>"$DIR/$part.log" 2>&1 9>&- &
  echo $! >"$DIR/$part.pid"
  disown
}

start_part() { # PART any-port|same-port
  local part=$1 begin=$SECONDS pid attempt
  pid=$(cat "$DIR/$part.pid" 2>/dev/null) || true
  if is_tagged "$pid" "$(tag "$part")"; then
    wait_ready "$part" && return
    give_up "$part" "runs (process $pid) but does not answer (was it stopped by a signal STOP?)"
  fi
  "${part//-/_}_prepare"
  for attempt in 1 2; do
    if try_launch "$part"; then
      say "$part is ready$(where "$part") ($((SECONDS - begin)) s)"
      return
    fi
    # Between choosing a port and binding it, somebody else may take it. That is worth one more try with
    # another port, where the port may change; nothing else is.
    [[ $PORT_TAKEN == yes ]] || give_up "$part" "was not ready after $((SECONDS - begin)) s"
    [[ $attempt == 1 && $2 == any-port ]] ||
      die "$part cannot start: another process has one of its ports ($(ports_of "$part")). End that one and try again."
    say "$part found its port taken; taking another one"
    rm -f "$DIR/$part.port" "$DIR/$part"-*.port
    end_dependents "$part"
  done
}

# Sets PORT_TAKEN, for the caller to judge a failure by.
try_launch() { # PART
  local part=$1 seen
  end_tagged "$(tag "$part")" KILL 1
  PORT_TAKEN=yes
  ! has_taken_port "$part" || return
  seen=$(log_size "$part")
  "${part//-/_}_launch"
  wait_ready "$part" && return
  log_tells_of_taken_port "$part" "$seen" || PORT_TAKEN=no
  return 1
}

# Nothing of the part runs when this is asked: who answers is somebody else.
has_taken_port() { # PART
  local port
  for port in $(ports_of "$1"); do
    if answers "$port"; then return 0; fi
  done
  return 1
}

where() { # PART
  [[ ! -e $DIR/$1.port ]] || echo " on $(address):$(port "$1")"
}

ports_of() { # PART
  cat "$DIR/$1.port" "$DIR/$1"-*.port 2>/dev/null | xargs
}

# They know the old port of PART; "up" starts them again after it.
end_dependents() { # PART
  local part
  for part in apiserver controller-manager; do
    case $1-$part in
      etcd-* | apiserver-controller-manager) end_tagged "$(tag "$part")" KILL 1 ;;
    esac
  done
}

is_ready() { "${1//-/_}_ready" 2>/dev/null; }

# Ready, or dead before it was: both end the waiting.
wait_ready() { # PART
  local part=$1 pid
  pid=$(cat "$DIR/$part.pid")
  # shellcheck disable=SC2317 # wait_until calls it
  ready_or_dead() { ! is_alive "$pid" || is_ready "$part"; }
  wait_until "$READY_SECONDS" ready_or_dead && is_alive "$pid"
}

give_up() { # PART WHAT
  last_lines "$DIR/$1.log"
  die "$1 $2. Its whole log: $DIR/$1.log"
}

log_size() { stat -c %s "$DIR/$1.log" 2>/dev/null || echo 0; }

log_tells_of_taken_port() { # PART BYTES-OF-LOG-BEFORE
  tail -c "+$(($2 + 1))" "$DIR/$1.log" | grep -qiE 'address already in use|eaddrinuse|could not bind to|could_not_start_listener'
}

# Postgres takes TERM as "when the last client has gone".
polite() { # PART SIGNAL
  if [[ $1 == postgres && $2 == TERM ]]; then echo INT; else echo "$2"; fi
}

write_env() {
  {
    echo "# Of hack/stack, to be sourced. Everything it names listens on $(bind_address)."
    if [[ -e $DIR/kubeconfig ]]; then
      printf 'export KUBECONFIG=%q\n' "$DIR/kubeconfig"
      printf 'export PATH=%q:"%s"\n' "$(dirname "$(kube_program kubectl)")" "\$PATH"
    fi
    if [[ -e $DIR/postgres.port ]]; then
      printf 'export DATABASE_URL=%q\n' "postgres://postgres:$(cat "$DIR/postgres.password")@$(address):$(port postgres)/sync"
    fi
    if [[ -e $DIR/rabbitmq.port ]]; then
      local user
      user=sync:$(cat "$DIR/rabbitmq/password")
      printf 'export RABBITMQ_URL=%q\n' "amqp://$user@$(address):$(port rabbitmq)/%2f"
      printf 'export RABBITMQ_MANAGEMENT_URL=%q\n' "http://$user@$(address):$(port rabbitmq-management)"
    fi
  } >"$DIR/env.new"
  mv "$DIR/env.new" "$DIR/env"
}
