# shellcheck shell=bash
# The chapters of hack/e2e, in their order.
# shellcheck disable=SC2016 # commands are shown with the names of variables, and run by eval

MEMORY_SHARE=50 # percent of its limit that a container may take in this story

pods() { kubectl get pods -n "$RELEASE" -o json; }
# Not those that are told to end, nor those of a node that is off: for some seconds its pods are still called ready.
ready_pods() { # [NODE-THAT-IS-OFF]
  pods | jq --arg off "${1:-}" '[.items[] | select(.metadata.deletionTimestamp == null and .spec.nodeName != $off)
    | select(any(.status.conditions[]?; .type == "Ready" and .status == "True"))] | length'
}
restarts() { pods | jq '[.items[].status.containerStatuses[]?.restartCount] | add'; }
has_ready_pods() { [[ $(ready_pods "${2:-}") == "$1" ]]; } # COUNT [NODE-THAT-IS-OFF]

# The Lease's holder begins with the pod's name.
leader() {
  local holder
  holder=$(kubectl get lease -n "$RELEASE" "$RELEASE" -o 'jsonpath={.spec.holderIdentity}')
  pods | jq -r --arg holder "$holder" '.items[].metadata.name | select(. as $name | $holder | startswith($name))'
}
leads_another() { local now; now=$(leader) && [[ -n $now && $now != "$1" ]]; } # POD

installed() {
  heading "1. Installed by its chart, held to the Pod Security Standard \"restricted\""
  write_values
  run 'helm install -n "$RELEASE" "$RELEASE" "$CHART" --values "$WORK/values.yaml" --wait --timeout 120s --hide-notes'
  run 'kubectl get pods -n "$RELEASE" -o wide'
  expect "the number of pods that are ready" "$(ready_pods)" 2
  expect "the number of containers in each" "$(pods | jq -c '[.items[].spec.containers | length] | unique')" "[2]"
  expect "the number of restarts" "$(restarts)" 0
  expect "the number of nodes that they are on" "$(pods | jq '[.items[].spec.nodeName] | unique | length')" 2
  expect_text "the namespace" "$(kubectl get namespace "$RELEASE" -o 'jsonpath={.metadata.labels}')" '"pod-security.kubernetes.io/enforce":"restricted"'
  expect "the number of warnings about pods that were refused" \
    "$(kubectl get events -n "$RELEASE" --field-selector reason=FailedCreate -o name | wc -l)" 0
  wait_until 30 leads_another "" || die "NOT AS IT MUST BE: no pod leads"
  checked "the leader is $(leader)"
}

answers_through_its_service() {
  heading "2. The API answers through its Service"
  local answer
  find_api
  run 'curl -s -u "$ADMIN_USERNAME:$ADMIN_PASSWORD" "$SYNC_API_URL/sync/status" | jq -c'
  expect "the status" "$(rest /sync/status | jq -r .status)" idle
  answer=$(curl_local --max-time 30 --netrc-file "$WORK/netrc" "$SYNC_API_URL/sync/force" -H 'Content-Type: application/json' -d '{"mode":"update"}')
  printf '\n$ %s\n%s\n' 'curl -s -u "$ADMIN_USERNAME:$ADMIN_PASSWORD" "$SYNC_API_URL/sync/force" --json '"'"'{"mode":"update"}'"'" "$answer"
  expect "success" "$(jq -r .success <<<"$answer")" true
  expect "the number of objects that it made" "$(kubectl get syncexecutions -n "$NAMESPACE" -o name | wc -l)" 1
  expect "what somebody without a password is told" \
    "$(curl_local -o /dev/null -w '%{http_code}' "$SYNC_API_URL/sync/status")" 401
  if [[ $PRIVATE == yes ]]; then asked_from_a_pod; fi
}

asked_from_a_pod() {
  kubectl apply -n "$NAMESPACE" -f - >/dev/null <<'YAML'
apiVersion: v1
kind: Pod
metadata: {name: client}
spec:
  automountServiceAccountToken: false
  terminationGracePeriodSeconds: 0
  securityContext: {runAsNonRoot: true, runAsUser: 65532, seccompProfile: {type: RuntimeDefault}}
  containers:
  - name: client
    image: localhost/cluster-tools:local
    securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
YAML
  kubectl wait -n "$NAMESPACE" pod/client --for=condition=Ready --timeout=30s >/dev/null
  expect "the mode that a pod is told by /sync/status" \
    "$(kubectl exec -i -n "$NAMESPACE" client -- curl -s -K - <<<"url = \"$SYNC_API_URL/sync/status\"
user = \"$ADMIN_USERNAME:$ADMIN_PASSWORD\"" | jq -r .mode)" update
}

works_off_requests() {
  heading "3. A worker takes the requests; both modes end well"
  start_worker "$(way_to_report)"
  run 'kubectl apply -n "$NAMESPACE" -f examples/update.yaml -f examples/backfill.yaml'
  apply_round first 20
  run 'kubectl wait -n "$NAMESPACE" -f examples/update.yaml -f examples/backfill.yaml --for=condition=Finished --timeout=60s'
  one_row_each first 20
  all_succeed first 20
  expect_more_than "the number of records of the backfill" "$(field examples/backfill.yaml .status.recordsProcessed)" 0
  end_worker
}

# By HTTP through the Service, so that this is tried, too; a port-forward would not outlive the pods.
way_to_report() { if [[ $PRIVATE == yes ]]; then echo http; else echo amqp; fi; }

leader_is_deleted() {
  heading "4. The leader's pod is deleted while requests come in"
  local old applying
  old=$(leader)
  apply_round deleted 100 &
  applying=$!
  wait_until 60 has_rows deleted 20 || die "NOT AS IT MUST BE: only $(rows deleted) requests were recorded"
  run "kubectl delete pod -n $RELEASE $old --wait=false   # $(rows deleted) of 100 requests are recorded"
  wait "$applying"
  wait_published deleted 100 60
  one_row_each deleted 100
  each_sent deleted
  wait_until 30 leads_another "$old" || die "NOT AS IT MUST BE: no other pod leads"
  checked "the leader is $(leader)"
  start_worker "$(way_to_report)"
  all_succeed deleted 100
  wait_until 60 has_ready_pods 2 || die "NOT AS IT MUST BE: $(ready_pods) pods are ready, must be 2"
  checked "2 pods are ready again"
}

upgrade_rolls() {
  heading "5. A rolling upgrade while requests come in and somebody asks the API all the time"
  local before applying answers
  before=$(pods | jq -c '[.items[].metadata.uid] | sort')
  if [[ $PRIVATE == yes ]]; then
    ask_all_the_time &
    answers=$!
  fi
  apply_round upgrade 100 &
  applying=$!
  wait_until 60 has_rows upgrade 10 || die "NOT AS IT MUST BE: only $(rows upgrade) requests were recorded"
  run 'helm upgrade -n "$RELEASE" "$RELEASE" "$CHART" --values "$WORK/values.yaml" --set log.level=debug --wait --timeout 180s --hide-notes'
  wait "$applying"
  one_row_each upgrade 100
  all_succeed upgrade 100
  wait_until 60 has_only_new_pods "$before" || die "NOT AS IT MUST BE: pods from before the upgrade are still there"
  checked "all pods are new"
  if [[ $PRIVATE == yes ]]; then
    touch "$WORK/enough"
    wait "$answers"
    expect_more_than "the number of answers of the API meanwhile" "$(wc -l <"$WORK/answers")" 50
    expect "the different answers" "$(sort "$WORK/answers" | uniq | xargs)" 200
  else
    tell "  (a port-forward breaks with its pod, so whether the API answers throughout is not looked at)"
  fi
  end_worker
}

has_only_new_pods() { # UIDS
  [[ $(pods | jq --argjson old "$1" '[.items[].metadata.uid] - ((([.items[].metadata.uid]) - $old)) | length') == 0 ]]
}

# Each on a connection of its own, so that each is led anew to some pod.
ask_all_the_time() {
  while [[ ! -e $WORK/enough ]]; do
    curl_local --netrc-file "$WORK/netrc" -o /dev/null -w '%{http_code}\n' "$SYNC_API_URL/sync/status" || true
    sleep 0.05
  done >"$WORK/answers"
}

secrets_are_rotated() {
  heading "6. Passwords are changed; the pods are not"
  if [[ $PRIVATE == no ]]; then
    tell "  (not in a cluster of your own)"
    return
  fi
  local before
  before=$(pods_and_restarts)
  new_passwords
  ADMIN_PASSWORD=$(random_hex 12)
  write_secrets
  tell "  database, broker and administrator have other passwords now, as their Secrets say"
  expect_more_than "the number of connections to the database that were cut" "$(cut_database)" 0
  expect_more_than "the number of connections to the broker that were cut" "$(cut_broker)" 0
  wait_until 90 answers_admin || die "NOT AS IT MUST BE: after 90 s the API does not take the new password, or does not reach the database"
  checked "the API takes the new password"
  start_worker "$(way_to_report)"
  apply_round rotated 10
  wait_published rotated 10 90
  one_row_each rotated 10
  all_succeed rotated 10
  end_worker
  expect "what became of the pods" "$(pods_and_restarts)" "$before"
}

pods_and_restarts() {
  pods | jq -r '.items[] | "\(.metadata.name) with \([.status.containerStatuses[].restartCount] | add) restarts"' | xargs
}

# Of every pod: each answer may come from another one.
answers_admin() {
  for _ in 1 2 3 4 5 6; do
    curl_local --fail -o /dev/null --netrc-file "$WORK/netrc" "$SYNC_API_URL/sync/status" || return 1
  done
}

memory_is_enough() {
  heading "7. The containers keep well within their limits of memory"
  local pod container used limit node
  while read -r node pod container limit; do
    used=$(kubectl get --raw "/api/v1/nodes/$node/proxy/stats/summary" 2>/dev/null | jq --arg pod "$pod" --arg container "$container" \
      '.pods[] | select(.podRef.name == $pod) | .containers[] | select(.name == $container) | .memory.workingSetBytes')
    [[ $used =~ ^[1-9][0-9]*$ ]] || die "NOT AS IT MUST BE: the memory of $pod, $container is not known"
    limit=$(numfmt --from=auto <<<"${limit%B}")
    ((used * 100 < limit * MEMORY_SHARE)) ||
      die "NOT AS IT MUST BE: $pod, $container takes $((used >> 20)) MiB of $((limit >> 20)), must be less than $MEMORY_SHARE %"
    checked "$pod, $container takes $((used >> 20)) MiB of $((limit >> 20))"
  done < <(pods | jq -r '.items[] | .spec.nodeName as $node | .metadata.name as $pod | .spec.containers[] | "\($node) \($pod) \(.name) \(.resources.limits.memory)"')
  expect "the number of containers that were killed for their memory" \
    "$(pods | jq '[.items[].status.containerStatuses[]? | select(.lastState.terminated.reason == "OOMKilled")] | length')" 0
  expect "the number of restarts" "$(restarts)" 0
}

node_goes_away() {
  heading "8. The node with the leader loses its power while requests come in"
  if [[ $PRIVATE == no ]]; then
    tell "  (not in a cluster of your own)"
    return
  fi
  local old node applying begin
  old=$(leader)
  node=$(kubectl get pod -n "$RELEASE" "$old" -o 'jsonpath={.spec.nodeName}')
  apply_round power 100 &
  applying=$!
  wait_until 60 has_rows power 20 || die "NOT AS IT MUST BE: only $(rows power) requests were recorded"
  run "hack/cluster node-off \"\$WORK/cluster\" $node   # $(rows power) of 100 requests are recorded"
  begin=$SECONDS
  wait "$applying"
  wait_until 60 leads_another "$old" || die "NOT AS IT MUST BE: no other pod leads"
  checked "the leader is $(leader), $((SECONDS - begin)) s later"
  wait_published power 100 90
  one_row_each power 100
  each_sent power
  wait_until 90 has_ready_pods 2 "$node" || die "NOT AS IT MUST BE: $(ready_pods "$node") pods are ready on the node that is left, must be 2"
  checked "2 pods are ready on the node that is left, $((SECONDS - begin)) s later"
  start_worker "$(way_to_report)"
  all_succeed power 100
  end_worker
}

release_objects() {
  kubectl get deployments,services,serviceaccounts,clusterroles,clusterrolebindings -A -l "app.kubernetes.io/instance=$RELEASE" -o name | wc -l
}

uninstalled() {
  heading "9. Uninstalled: what people made stays"
  local objects rows
  expect_more_than "the number of deployments, services, accounts and roles of the release" "$(release_objects)" 4
  objects=$(kubectl get syncexecutions -A -o name | wc -l)
  rows=$(sql 'SELECT count(*) FROM sync_executions')
  run 'helm uninstall -n "$RELEASE" "$RELEASE" --wait --timeout 90s'
  expect "the CRD" "$(kubectl get crd syncexecutions.sync.pncp.io -o name)" customresourcedefinition.apiextensions.k8s.io/syncexecutions.sync.pncp.io
  expect "the number of objects" "$(kubectl get syncexecutions -A -o name | wc -l)" "$objects"
  expect "the number of rows" "$(sql 'SELECT count(*) FROM sync_executions')" "$rows"
  expect "the number of those of the release" "$(release_objects)" 0
}
