# shellcheck shell=bash
# The requests of hack/e2e, in rounds: making them, working them off, and finding out whether one was lost.

# Both modes in turn, as YAML.
requests() { # ROUND COUNT
  local number spec
  for ((number = 1; number <= $2; number++)); do
    spec='{mode: update}'
    ((number % 2)) || spec='{mode: backfill, window: {start: "2025-07-10T12:00:00-04:00", end: "2025-07-10T12:30:00-04:00"}}'
    printf -- '---\n{apiVersion: sync.pncp.io/v1alpha1, kind: SyncExecution, metadata: {name: %s-%03d, namespace: %s, labels: {round: %s}}, spec: %s}\n' \
      "$1" "$number" "$NAMESPACE" "$1" "$spec"
  done
}

apply_round() { # ROUND COUNT
  requests "$1" "$2" >"$WORK/$1.yaml"
  kubectl apply -f "$WORK/$1.yaml" >"$WORK/$1.applied"
}

start_worker() { # WAY-TO-REPORT
  : >"$WORK/worker.log"
  PYTHONPATH=$INGESTOR PYTHONDONTWRITEBYTECODE=1 "$DEV/venv/bin/python" -m ingestor --report "$1" >>"$WORK/worker.log" 2>&1 </dev/null &
  WORKER=$!
  # shellcheck disable=SC2317 # wait_until calls it
  works() { grep -qw ready "$WORK/worker.log"; }
  wait_until 30 works || { last_lines "$WORK/worker.log"; die "the worker did not start"; }
}

# After the message in hand.
end_worker() {
  [[ -n ${WORKER:-} ]] || return 0
  kill "$WORKER" 2>/dev/null || true
  wait "$WORKER" || true
  WORKER=""
}

rows() { sql "SELECT count(*) FROM sync_executions WHERE namespace = '$NAMESPACE' AND name LIKE '$1-%'"; } # ROUND

has_rows() { [[ $(rows "$1") -ge $2 ]]; } # ROUND COUNT

published() { # ROUND
  sql "SELECT count(*) FROM sync_executions WHERE namespace = '$NAMESPACE' AND name LIKE '$1-%' AND published_at IS NOT NULL"
}

all_published() { [[ $(published "$1") == "$2" ]]; } # ROUND COUNT

wait_published() { # ROUND COUNT SECONDS
  local begin=$SECONDS
  wait_until "$3" all_published "$1" "$2" ||
    die "NOT AS IT MUST BE: after $3 s the broker confirmed $(published "$1") of the $2 requests"
  tell "  all $2 are confirmed by the broker after $((SECONDS - begin)) s more"
}

# Each object has one row, and each row has its object.
one_row_each() { # ROUND COUNT
  kubectl get syncexecutions -n "$NAMESPACE" -l "round=$1" -o 'jsonpath={range .items[*]}{.metadata.uid}{"\n"}{end}' | sort >"$WORK/$1.objects"
  sql "SELECT request_uid FROM sync_executions WHERE namespace = '$NAMESPACE' AND name LIKE '$1-%'" | sort >"$WORK/$1.rows"
  expect "the number of objects" "$(wc -l <"$WORK/$1.objects")" "$2"
  expect "the number of rows" "$(wc -l <"$WORK/$1.rows")" "$2"
  expect "what differs between them" "$(diff "$WORK/$1.objects" "$WORK/$1.rows" | head -n 5)" ""
}

# What waits in the queue, one line a message: id and body. Looked at while no worker takes any.
queued() {
  broker POST queues/%2F/ingest.pncp/get '{"count": 5000, "ackmode": "ack_requeue_true", "encoding": "auto"}' |
    jq -r '.[] | .properties.message_id + " " + .payload'
}

# A second copy is possible after a crash, and then it is the same message.
each_sent() { # ROUND
  if [[ -z ${RABBITMQ_MANAGEMENT_URL:-} ]]; then
    tell "  (not looked at on the wire: RABBITMQ_MANAGEMENT_URL is not set)"
    return
  fi
  local total
  queued >"$WORK/$1.messages"
  total=$(wc -l <"$WORK/$1.messages")
  sort -u "$WORK/$1.messages" | cut -d' ' -f1 | sed 's|/1$||' | sort >"$WORK/$1.sent"
  expect "what differs between the requests and the different messages in the queue" \
    "$(diff "$WORK/$1.objects" "$WORK/$1.sent" | head -n 5)" ""
  tell "  $total messages, of which $((total - $(wc -l <"$WORK/$1.sent"))) are second copies, with the same id and body as the first"
}

all_succeed() { # ROUND COUNT
  run "kubectl wait syncexecutions -n $NAMESPACE -l round=$1 --for=condition=Finished --timeout=120s >/dev/null"
  expect "the number of those that succeeded" \
    "$(kubectl get syncexecutions -n "$NAMESPACE" -l "round=$1" --field-selector status.phase=Succeeded -o name | wc -l)" "$2"
  expect "the number of their rows with success" \
    "$(sql "SELECT count(*) FROM sync_executions WHERE namespace = '$NAMESPACE' AND name LIKE '$1-%' AND status = 'success'")" "$2"
}
