# shellcheck shell=bash
# The parts etcd, apiserver and controller-manager: each with its data, its launch and its sign of being
# ready. Knows no other part.

etcd_prepare() { :; }

etcd_launch() {
  local client peer
  client=http://127.0.0.1:$(port etcd)
  peer=http://127.0.0.1:$(port etcd-peer)
  launch etcd "$(kube_program etcd)" --name "$(stack_id)" --data-dir "$DIR/etcd" --log-level warn \
    --listen-client-urls "$client" --advertise-client-urls "$client" \
    --listen-peer-urls "$peer" --initial-advertise-peer-urls "$peer" --initial-cluster "$(stack_id)=$peer"
}

etcd_ready() { curl_local --fail -o /dev/null "http://127.0.0.1:$(port etcd)/readyz"; }

# A small CA of its own, so that clients can verify the server; and one token that may do everything.
apiserver_prepare() {
  local pki=$DIR/pki token
  [[ -e $pki/complete ]] && return
  rm -rf "$pki" && mkdir -m 700 "$pki"
  token=$(random_hex 24)
  (
    cd "$pki"
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj "/CN=$(stack_id) CA" \
      -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,digitalSignature \
      -keyout ca.key -out ca.crt
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj /CN=kube-apiserver \
      -CA ca.crt -CAkey ca.key -addext subjectAltName=IP:127.0.0.1,DNS:localhost -addext extendedKeyUsage=serverAuth \
      -addext basicConstraints=critical,CA:FALSE -keyout server.key -out server.crt
    openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out service-account.key
    openssl pkey -in service-account.key -pubout -out service-account.pub
  ) 2>"$pki/openssl.log" || die "openssl could not make the certificates: $(tail -n 3 "$pki/openssl.log")"
  echo "$token,admin,admin,\"system:masters\"" >"$pki/tokens.csv"
  echo "Authorization: Bearer $token" >"$pki/header"
  touch "$pki/complete"
}

# The address of the API server is in it, so it is written at every launch.
write_kubeconfig() {
  local pki=$DIR/pki token
  token=$(cut -d, -f1 "$pki/tokens.csv")
  cat >"$DIR/kubeconfig" <<YAML
apiVersion: v1
kind: Config
clusters:
- name: local
  cluster:
    server: https://127.0.0.1:$(port apiserver)
    certificate-authority-data: $(base64 -w0 "$pki/ca.crt")
users:
- name: admin
  user:
    token: $token
contexts:
- name: local
  context: {cluster: local, user: admin, namespace: default}
current-context: local
YAML
}

apiserver_launch() {
  local pki=$DIR/pki
  write_kubeconfig
  # No endpoint for the service "kubernetes": an endpoint on loopback is refused, and nothing here uses it.
  launch apiserver "$(kube_program kube-apiserver)" \
    --etcd-servers "http://127.0.0.1:$(port etcd)" \
    --bind-address 127.0.0.1 --advertise-address 127.0.0.1 --secure-port "$(port apiserver)" \
    --endpoint-reconciler-type none \
    --tls-cert-file "$pki/server.crt" --tls-private-key-file "$pki/server.key" --cert-dir "$pki" \
    --token-auth-file "$pki/tokens.csv" --authorization-mode RBAC \
    --service-account-issuer https://kubernetes.default.svc \
    --service-account-key-file "$pki/service-account.pub" \
    --service-account-signing-key-file "$pki/service-account.key" \
    --service-cluster-ip-range 10.96.0.0/16
}

# The namespace default comes a moment after the server says that it is ready, and people use it first.
apiserver_ready() {
  local url
  for url in readyz api/v1/namespaces/default; do
    curl_local --fail -o /dev/null --cacert "$DIR/pki/ca.crt" -H "@$DIR/pki/header" \
      "https://127.0.0.1:$(port apiserver)/$url" || return 1
  done
}

controller_manager_prepare() { :; }

controller_manager_launch() {
  local pki=$DIR/pki
  launch controller-manager "$(kube_program kube-controller-manager)" --kubeconfig "$DIR/kubeconfig" \
    --bind-address 127.0.0.1 --secure-port "$(port controller-manager)" --cert-dir "$DIR/controller-manager" \
    --leader-elect=false --use-service-account-credentials \
    --service-account-private-key-file "$pki/service-account.key" --root-ca-file "$pki/ca.crt"
}

# Its certificate is made by itself at each start, and all we ask is whether it lives.
controller_manager_ready() {
  curl_local --fail --insecure -o /dev/null "https://127.0.0.1:$(port controller-manager)/healthz" &&
    curl_local --fail -o /dev/null --cacert "$DIR/pki/ca.crt" -H "@$DIR/pki/header" \
      "https://127.0.0.1:$(port apiserver)/api/v1/namespaces/default/serviceaccounts/default"
}
