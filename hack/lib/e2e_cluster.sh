# shellcheck shell=bash
# What hack/e2e stands on: the image, the cluster, the operator's Secrets, the way to its API, and what to show
# when something is wrong.

# The pinned helm, and a kubectl, if there is none.
get_tools() {
  ensure_programs curl jq psql
  ensure_venv requirements.txt
  PATH=$(dirname "$("$HACK/helm" path)"):$PATH
  command -v kubectl >/dev/null || {
    ensure_kube_programs kubectl
    PATH=$(dirname "$(kube_program kubectl)"):$PATH
  }
}

# IMAGE_NAME is what pods use. In a cluster of your own, IMAGE is that name; here, IMAGE is an archive.
get_image() {
  if [[ $PRIVATE == no ]]; then
    IMAGE_NAME=${IMAGE:-}
  elif [[ -z ${IMAGE:-} ]]; then
    IMAGE=$("$HACK/image" --profile dev) || die "the image could not be built; the words of hack/image are above"
  fi
}

get_cluster() {
  if [[ $PRIVATE == no ]]; then
    use_own_cluster
    return
  fi
  "$HACK/cluster" up "$WORK/cluster" --nodes 2
  # shellcheck source=/dev/null
  . "$WORK/cluster/env"
  IMAGE_NAME=$("$HACK/cluster" load "$WORK/cluster" "$IMAGE")
  # A role that owns its database and nothing else, and a user who may do nothing else, as a deployment has them.
  sql "CREATE ROLE operator LOGIN; ALTER DATABASE sync OWNER TO operator; ALTER SCHEMA public OWNER TO operator"
  new_passwords
  broker PUT permissions/%2F/operator '{"configure": ".*", "write": ".*", "read": ".*"}'
  make_namespaces
}

use_own_cluster() {
  local name
  for name in IMAGE DATABASE_URL RABBITMQ_URL; do
    [[ -n ${!name:-} ]] || die "KUBECONFIG is set, so the story would run in that cluster, and $name is missing. Set it, or unset KUBECONFIG to have a cluster made."
  done
  [[ -z $(kubectl get namespace "$RELEASE" "$NAMESPACE" --ignore-not-found -o name) ]] ||
    die "the cluster has a namespace $RELEASE or $NAMESPACE already: the story makes both and deletes them. Use another cluster."
  OPERATOR_DATABASE_URL=$DATABASE_URL
  OPERATOR_RABBITMQ_URL=$RABBITMQ_URL
  say "in the cluster of your own, $(kubectl config current-context): no node is switched off there, no password changed, and the API is asked through a port-forward"
  make_namespaces
}

# Of the operator's role in the database and of its user of the broker.
new_passwords() {
  local database broker
  database=$(random_hex 12)
  broker=$(random_hex 12)
  sql "ALTER ROLE operator PASSWORD '$database'"
  broker PUT users/operator "{\"password\": \"$broker\", \"tags\": \"\"}"
  OPERATOR_DATABASE_URL=postgres://operator:$database@${POD_DATABASE_URL#*@}
  OPERATOR_RABBITMQ_URL=amqp://operator:$broker@${POD_RABBITMQ_URL#*@}
}

# Who is connected already stays so, whatever the password becomes. Each tells how many connections it cut.
cut_database() { sql "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = 'operator'"; }

cut_broker() {
  local name
  broker GET connections | jq -r '.[] | select(.user == "operator") | .name | @uri' | while read -r name; do
    broker DELETE "connections/$name"
    echo "$name"
  done | wc -l
}

# The management interface of RabbitMQ; by standard input, for the password that is in its URL.
broker() { # METHOD PATH [BODY]
  curl_local --fail --show-error --max-time 30 -K - -X "$1" -H 'Content-Type: application/json' ${3:+-d "$3"} \
    <<<"url = \"$RABBITMQ_MANAGEMENT_URL/api/$2\""
}

# Both are held to the strictest of the Pod Security Standards.
make_namespaces() {
  local name
  for name in "$RELEASE" "$NAMESPACE"; do
    kubectl create namespace "$name" >/dev/null
    kubectl label namespace "$name" pod-security.kubernetes.io/enforce=restricted >/dev/null
  done
  ADMIN_USERNAME="admin"
  ADMIN_PASSWORD=$(random_hex 12)
  write_secrets
}

# By standard input: a command line is for every user of the machine to read.
write_secrets() {
  write_secret database url "$OPERATOR_DATABASE_URL"
  write_secret rabbitmq url "$OPERATOR_RABBITMQ_URL"
  write_secret admin username "$ADMIN_USERNAME" password "$ADMIN_PASSWORD"
  printf 'default login %s password %s\n' "$ADMIN_USERNAME" "$ADMIN_PASSWORD" >"$WORK/netrc"
}

write_secret() { # NAME KEY VALUE…
  local name=$1
  shift
  while (($#)); do
    printf '%s\n%s\n' "$1" "$2"
    shift 2
  done | jq -Rs --arg name "$name" 'split("\n")[:-1] | [_nwise(2)] | map({(.[0]): .[1]}) | add
      | {apiVersion: "v1", kind: "Secret", metadata: {name: $name}, stringData: .}' |
    kubectl apply -n "$RELEASE" -f - >/dev/null
}

# The chart's values: nothing secret in them.
write_values() {
  cat >"$WORK/values.yaml" <<YAML
image: {repository: ${IMAGE_NAME%:*}, tag: "${IMAGE_NAME##*:}"}
database: {existingSecret: {name: database}}
rabbitmq: {existingSecret: {name: rabbitmq}}
api:
  auth: {existingSecret: {name: admin}}
  force: {namespace: $NAMESPACE}
YAML
}

# The Service of the API, by the address that pods use; from outside of another cluster through a port-forward.
find_api() {
  local name port
  read -r name port < <(kubectl get service -n "$RELEASE" -o json |
    jq -r '.items[] | .metadata.name as $name | .spec.ports[] | select(.name == "http") | "\($name) \(.port)"')
  if [[ $PRIVATE == yes ]]; then
    SYNC_API_URL=http://$(kubectl get service -n "$RELEASE" "$name" -o 'jsonpath={.spec.clusterIP}'):$port
  else
    port_forward "$name" "$port"
  fi
  export SYNC_API_URL ADMIN_USERNAME ADMIN_PASSWORD
}

# It breaks with the pod that it leads to, so it is begun anew.
port_forward() { # SERVICE PORT
  local local_port
  local_port=$(free_port)
  (
    trap 'kill $(jobs -p); exit' TERM
    while :; do
      kubectl port-forward -n "$RELEASE" "service/$1" "$local_port:$2" >/dev/null 2>&1 &
      wait $! || sleep 0.5
    done
  ) &
  wait_until 30 answers "$local_port" || die "kubectl port-forward to the service $1 does not answer"
  SYNC_API_URL=http://127.0.0.1:$local_port
}

explain_failure() {
  local pod container
  [[ -n ${OPERATOR_DATABASE_URL:-} ]] || return 0
  {
    heading "What the cluster says"
    kubectl get nodes,pods,leases -A -o wide
    kubectl get events -n "$RELEASE" --sort-by .lastTimestamp | tail -n 30
    kubectl describe pods -n "$RELEASE" | tail -n 120
    kubectl get syncexecutions -n "$NAMESPACE" -o json | jq -r '.items[].status.phase // "(none)"' | sort | uniq -c
    for pod in $(kubectl get pods -n "$RELEASE" -o name); do
      for container in controller api; do
        heading "$pod, $container"
        kubectl logs -n "$RELEASE" "$pod" -c "$container" --tail 30
        kubectl logs -n "$RELEASE" "$pod" -c "$container" --tail 30 --previous 2>/dev/null
      done
    done
    [[ ! -e $WORK/worker.log ]] || last_lines "$WORK/worker.log"
  } >&2 || true
}

leave_cluster() {
  if [[ $PRIVATE == yes ]]; then
    "$HACK/cluster" down "$WORK/cluster"
  elif [[ -n ${OPERATOR_DATABASE_URL:-} ]]; then
    helm uninstall -n "$RELEASE" "$RELEASE" --ignore-not-found --wait >/dev/null &&
      kubectl delete namespace "$NAMESPACE" "$RELEASE" --ignore-not-found --timeout=120s >&2 &&
      say "the CRD and the rows in the database are left where they are"
  fi
}
