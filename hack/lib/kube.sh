# shellcheck shell=bash
# The parts etcd, apiserver and controller-manager: each with its data, its launch and its sign of being
# ready. Knows no other part.

etcd_prepare() { :; }

# The quota is the most that etcd recommends: a hundred thousand objects with their changes of the last minutes fill the usual 2 GB.
etcd_launch() {
  local client peer
  client=http://127.0.0.1:$(port etcd)
  peer=http://127.0.0.1:$(port etcd-peer)
  launch etcd "$(kube_program etcd)" --name "$(stack_id)" --data-dir "$DIR/etcd" --log-level warn \
    --quota-backend-bytes $((8 << 30)) \
    --listen-client-urls "$client" --advertise-client-urls "$client" \
    --listen-peer-urls "$peer" --initial-advertise-peer-urls "$peer" --initial-cluster "$(stack_id)=$peer"
}

etcd_ready() { curl_local --fail -o /dev/null "http://127.0.0.1:$(port etcd)/readyz"; }

# A small CA of its own, so that clients can verify the server; and one token that may do everything. The
# server's certificate is its client certificate, too, when it calls a kubelet.
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
      -CA ca.crt -CAkey ca.key -addext "subjectAltName=$(apiserver_names)" -addext extendedKeyUsage=serverAuth,clientAuth \
      -addext basicConstraints=critical,CA:FALSE -keyout server.key -out server.crt
    openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out service-account.key
    openssl pkey -in service-account.key -pubout -out service-account.pub
  ) 2>"$pki/openssl.log" || die "openssl could not make the certificates: $(tail -n 3 "$pki/openssl.log")"
  echo "$token,admin,admin,\"system:masters\"" >"$pki/tokens.csv"
  echo "Authorization: Bearer $token" >"$pki/header"
  touch "$pki/complete"
}

# Pods call the first address of the services.
apiserver_names() {
  local services
  services=$(services)
  echo "IP:127.0.0.1,IP:$(address),IP:${services%.*}.1,DNS:localhost,DNS:kubernetes.default.svc"
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
    server: https://$(address):$(port apiserver)
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

# Without nodes there is no endpoint for the service "kubernetes": one on loopback is refused, and nothing
# uses it.
apiserver_launch() {
  local pki=$DIR/pki reconciler=none
  write_kubeconfig
  if is_shared; then reconciler=lease; fi
  launch apiserver "$(kube_program kube-apiserver)" \
    --etcd-servers "http://127.0.0.1:$(port etcd)" \
    --bind-address "$(bind_address)" --advertise-address "$(address)" --secure-port "$(port apiserver)" \
    --endpoint-reconciler-type "$reconciler" \
    --tls-cert-file "$pki/server.crt" --tls-private-key-file "$pki/server.key" --cert-dir "$pki" \
    --token-auth-file "$pki/tokens.csv" --authorization-mode Node,RBAC --enable-admission-plugins NodeRestriction \
    --client-ca-file "$pki/ca.crt" --kubelet-client-certificate "$pki/server.crt" --kubelet-client-key "$pki/server.key" \
    --kubelet-preferred-address-types InternalIP \
    --default-not-ready-toleration-seconds 5 --default-unreachable-toleration-seconds 5 \
    --service-account-issuer https://kubernetes.default.svc \
    --service-account-key-file "$pki/service-account.pub" \
    --service-account-signing-key-file "$pki/service-account.key" \
    --service-cluster-ip-range "$(services)"
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

# A node that went away is noticed within 12 s, and its pods leave it 5 s later (above).
controller_manager_launch() {
  local pki=$DIR/pki
  launch controller-manager "$(kube_program kube-controller-manager)" --kubeconfig "$DIR/kubeconfig" \
    --bind-address 127.0.0.1 --secure-port "$(port controller-manager)" --cert-dir "$DIR/controller-manager" \
    --leader-elect=false --use-service-account-credentials \
    --node-monitor-period 2s --node-monitor-grace-period 12s \
    --service-account-private-key-file "$pki/service-account.key" --root-ca-file "$pki/ca.crt"
}

# Its certificate is made by itself at each start, and all we ask is whether it lives.
controller_manager_ready() {
  curl_local --fail --insecure -o /dev/null "https://127.0.0.1:$(port controller-manager)/healthz" &&
    curl_local --fail -o /dev/null --cacert "$DIR/pki/ca.crt" -H "@$DIR/pki/header" \
      "https://127.0.0.1:$(port apiserver)/api/v1/namespaces/default/serviceaccounts/default"
}
