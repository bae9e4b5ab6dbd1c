# shellcheck shell=bash
# The chapters of hack/demo: each shows its commands before it runs them and checks what they brought about.
# shellcheck disable=SC2016 # commands are shown with the names of variables, and run by eval

# Applies, watches while the work goes on, and returns when it is finished either way.
apply_and_wait() { # FILE
  local watch
  run "kubectl apply -n demo -f $1"
  printf '\n$ kubectl get -n demo -f %s --watch &\n' "$1"
  kubectl get -n "$NAMESPACE" -f "$1" --watch &
  watch=$!
  run "kubectl wait -n demo -f $1 --for=condition=Finished --timeout=120s" || {
    kill "$watch"
    kubectl describe -n "$NAMESPACE" -f "$1" >&2
    die "NOT AS IT MUST BE: $1 is not finished; what is known of it is above"
  }
  kill "$watch"
  wait "$watch" 2>/dev/null || true
}

update_succeeds() {
  heading "1. An update: ingest what was published in the last 15 minutes. The worker reports by HTTP"
  "$HACK/dev" worker http --delay-per-record 0.1
  apply_and_wait examples/update.yaml
  expect "the phase" "$(field examples/update.yaml .status.phase)" Succeeded
  expect_more_than "the number of records" "$(field examples/update.yaml .status.recordsProcessed)" 0
}

backfill_succeeds() {
  heading "2. A backfill: one afternoon of July 2025. The worker reports by AMQP, and its progress shows"
  "$HACK/dev" worker amqp --delay-per-record 0.1
  apply_and_wait examples/backfill.yaml
  expect "the phase" "$(field examples/backfill.yaml .status.phase)" Succeeded
  expect_more_than "the number of records" "$(field examples/backfill.yaml .status.recordsProcessed)" 0
}

backfill_fails() {
  heading "3. A backfill whose worker meets a record that it cannot read. The worker reports by SQL"
  "$HACK/dev" worker sql --delay-per-record 0.05
  apply_and_wait examples/backfill-fails.yaml
  expect "the phase" "$(field examples/backfill-fails.yaml .status.phase)" Failed
  expect_text "the error" "$(field examples/backfill-fails.yaml .status.error)" "is not a number"
}

request_is_refused() {
  heading "4. A window that ends before it starts: refused by the API server, nothing is recorded"
  local file=examples/refused.yaml name words
  name=$(kubectl create --dry-run=client -f "$file" -o 'jsonpath={.metadata.name}')
  printf '\n$ kubectl apply -n demo -f %s\n' "$file"
  if words=$(kubectl apply -n "$NAMESPACE" -f "$file" 2>&1); then
    die "NOT AS IT MUST BE: $file was accepted: $words"
  fi
  tell "$words"
  expect_text "the API server" "$words" "window.start must be before window.end"
  expect "the number of objects named $name" \
    "$(kubectl get syncexecutions -n "$NAMESPACE" --field-selector "metadata.name=$name" -o name | wc -l)" 0
  expect "the number of rows of it" "$(sql "SELECT count(*) FROM sync_executions WHERE namespace = '$NAMESPACE' AND name = '$name'")" 0
}

by_kubectl() {
  heading "The same, seen by kubectl"
  run 'kubectl get syncexecutions -n demo'
  run 'kubectl get syncexecutions -n demo -o wide'
  run 'kubectl get syncexecutions -n demo --field-selector status.phase=Failed'
  expect "the number of objects" "$(kubectl get syncexecutions -n "$NAMESPACE" -o name | wc -l)" 3
  expect "the number of failed ones" \
    "$(kubectl get syncexecutions -n "$NAMESPACE" --field-selector status.phase=Failed -o name | wc -l)" 1
}

# What REST says of an execution has to be what its object says.
by_rest() {
  heading "The same, seen by REST"
  local file id row
  run 'curl -s -u "$ADMIN_USERNAME:$ADMIN_PASSWORD" "$SYNC_API_URL/sync/status" | jq'
  expect "the status of the last execution" "$(rest /sync/status | jq -r .status)" error
  run 'curl -s -u "$ADMIN_USERNAME:$ADMIN_PASSWORD" "$SYNC_API_URL/sync/history?limit=3" | jq'
  for file in update backfill backfill-fails; do
    file=examples/$file.yaml
    id=$(field "$file" .status.executionID)
    row=$(rest "/sync/history?limit=3" | jq -c --arg id "$id" '.executions[] | select((.id | tostring) == $id)')
    expect "the mode of execution $id in the history" "$(jq -r .mode <<<"$row")" "$(field "$file" .spec.mode)"
    expect "its records" "$(jq -r '.records_processed' <<<"$row")" "$(field "$file" .status.recordsProcessed)"
    expect "its error" "$(jq -r '.error_message // ""' <<<"$row")" "$(field "$file" .status.error)"
  done
  run 'curl -s -u "$ADMIN_USERNAME:$ADMIN_PASSWORD" "$SYNC_API_URL/sync/dashboard" | jq'
  expect "the number of executions on the dashboard" \
    "$(rest /sync/dashboard | jq -r .total_executions)" "$(sql 'SELECT count(*) FROM sync_executions')"
}

find_forced() { # EXECUTION-ID
  local found
  found=$(kubectl get syncexecutions -A -o json | jq -r --arg id "$1" \
    '.items[] | select((.status.executionID | tostring) == $id) | .metadata.namespace + " " + .metadata.name')
  [[ -n $found ]] || return 1
  FORCED_NAMESPACE=${found% *}
  FORCED=syncexecution/${found#* }
}

by_force() {
  heading "5. An update asked for by REST: it becomes an object like the others"
  local answer id row
  "$HACK/dev" worker http
  printf '\n$ %s\n' 'curl -s -u "$ADMIN_USERNAME:$ADMIN_PASSWORD" "$SYNC_API_URL/sync/force" --json '"'"'{"mode":"update"}'"'"' | jq'
  answer=$(curl_local --max-time 30 --show-error -u "$ADMIN_USERNAME:$ADMIN_PASSWORD" "$SYNC_API_URL/sync/force" \
    -H 'Content-Type: application/json' -d '{"mode":"update"}')
  jq . <<<"$answer"
  expect "success" "$(jq -r .success <<<"$answer")" true
  id=$(jq -r .request_id <<<"$answer")
  wait_until 30 find_forced "$id" || die "NOT AS IT MUST BE: no SyncExecution shows the execution id $id"
  run "kubectl wait -n $FORCED_NAMESPACE $FORCED --for=condition=Finished --timeout=120s"
  run 'curl -s -u "$ADMIN_USERNAME:$ADMIN_PASSWORD" "$SYNC_API_URL/sync/executions/'"$id"'" | jq'
  row=$(rest "/sync/executions/$id")
  expect "the status of execution $id" "$(jq -r .status <<<"$row")" success
  expect_more_than "its number of records" "$(jq -r .records_processed <<<"$row")" 0
}

by_sql() {
  heading "The same, seen in SQL: one row for each request"
  local uids=() uid
  run 'psql "$DATABASE_URL" -c "SELECT id, namespace, name, mode, status, records_processed AS records, duration_seconds AS seconds, error_message FROM sync_executions ORDER BY id DESC LIMIT 4"'
  mapfile -t uids < <(kubectl get syncexecutions -n "$NAMESPACE" -o jsonpath='{range .items[*]}{.metadata.uid}{"\n"}{end}')
  uids+=("$(kubectl get "$FORCED" -n "$FORCED_NAMESPACE" -o 'jsonpath={.metadata.uid}')")
  for uid in "${uids[@]}"; do
    expect "the number of rows of request $uid" "$(sql "SELECT count(*) FROM sync_executions WHERE request_uid = '$uid'")" 1
  done
}
