# shellcheck shell=bash
# The parts controller, api and worker of hack/dev, and the servers they use. Their folder is .dev/operator.

# Given by the person, not by an earlier "source .dev/env".
is_given() { # NAME
  local own=SYNC_DEV_$1
  [[ -n ${!1:-} && ${!1} != "${!own:-}" ]]
}

# Starts the servers that are not given, and sets SETTINGS.
get_servers() {
  local name parts=()
  declare -A given=()
  for name in "${SETTINGS[@]}"; do
    if is_given "$name"; then
      given[$name]=${!name}
      say "using your own server: $name is set"
    else
      case $name in
        KUBECONFIG) parts+=(etcd apiserver controller-manager) ;;
        DATABASE_URL) parts+=(postgres) ;;
        RABBITMQ_URL) parts+=(rabbitmq) ;;
      esac
    fi
  done
  if ((${#parts[@]})); then
    "$HACK/stack" up "$DEV/stack" "${parts[@]}"
    # shellcheck source=/dev/null
    . "$DEV/stack/env"
  fi
  OWN=()
  for name in "${SETTINGS[@]}"; do
    if [[ -n ${given[$name]:-} ]]; then export "$name=${given[$name]}"; else OWN+=("$name"); fi
  done
  ensure_programs curl
  command -v kubectl >/dev/null || {
    ensure_kube_programs kubectl
    PATH=$(dirname "$(kube_program kubectl)"):$PATH
  }
}

apply_crd() {
  kubectl apply -f "$ROOT/crds/" >&2 9>&- || die "the CRD was not accepted; kubectl's words are above"
  kubectl wait --for=condition=Established --timeout=60s crd/syncexecutions.sync.pncp.io >&2 9>&- ||
    die "the API server does not serve the CRD; kubectl's words are above"
}

# Another program or other servers than it was started with: it has to start again.
restart_if_changed() { # PART
  local part=$1 stamp
  stamp=$(
    stat -c '%i %Y %s' "$BINARY"
    for name in "${SETTINGS[@]}"; do echo "${!name}"; done
  )
  if [[ $stamp != "$(cat "$DIR/$part.started-with" 2>/dev/null)" ]]; then
    end_tagged "$(tag "$part")" TERM 30
  fi
  echo "$stamp" >"$DIR/$part.started-with"
  (start_part "$part" any-port) || {
    say "$part answers on /readyz: $(curl_local "http://127.0.0.1:$(port "$part")/readyz" || echo nothing)"
    exit 1
  }
}

controller_prepare() { :; }
controller_launch() { METRICS_LISTEN=127.0.0.1:$(port controller) launch controller "$BINARY" controller; }
controller_ready() { curl_local --fail -o /dev/null "http://127.0.0.1:$(port controller)/readyz"; }

api_prepare() { :; }
api_launch() {
  # In the environment, not on a command line: that is for every user of the machine to read.
  API_LISTEN=127.0.0.1:$(port api) ADMIN_USERNAME=admin ADMIN_PASSWORD=$(cat "$DEV/admin.password") \
    launch api "$BINARY" api
}
api_ready() { curl_local --fail -o /dev/null "http://127.0.0.1:$(port api)/readyz"; }

worker_prepare() { :; }
worker_launch() {
  PYTHONPATH=$INGESTOR PYTHONDONTWRITEBYTECODE=1 launch worker "$DEV/venv/bin/python" -m ingestor "${WORKER_FLAGS[@]}"
}
worker_ready() { grep -qw ready "$DIR/worker.log"; }

write_dev_env() {
  local name
  {
    echo "# Of make up, to be sourced."
    for name in "${SETTINGS[@]}"; do printf 'export %s=%q\n' "$name" "${!name}"; done
    if [[ " ${OWN[*]} " == *" RABBITMQ_URL "* ]]; then printf 'export RABBITMQ_MANAGEMENT_URL=%q\n' "$RABBITMQ_MANAGEMENT_URL"; fi
    printf 'export SYNC_API_URL=%q\n' "http://127.0.0.1:$(port api)"
    printf 'export ADMIN_USERNAME=admin ADMIN_PASSWORD=%q\n' "$(cat "$DEV/admin.password")"
    printf 'export PATH=%q:"%s"\n' "$(dirname "$(command -v kubectl)")" "\$PATH"
    echo "# Tells make up that these are its own servers, not yours:"
    for name in ${OWN[@]+"${OWN[@]}"}; do printf 'export SYNC_DEV_%s=%q\n' "$name" "${!name}"; done
  } >"$DEV/env.new"
  chmod 600 "$DEV/env.new"
  mv "$DEV/env.new" "$DEV/env"
}
