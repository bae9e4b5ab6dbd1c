# shellcheck shell=bash
# One node of a cluster, seen from outside: its folder, its start, its images, its end.

TOOLS_IMAGE=localhost/cluster-tools:local

# Process 1 of the node, by its number on this machine.
node_init_pid() { # NODE
  local pid
  pid=$(cat "$DIR/$1.pid" 2>/dev/null) || true
  is_tagged "$pid" "$(tag "$1")" || die "there is no node $1 in $DIR, or it is off"
  pgrep -P "$pid" || die "$1 has no process 1 yet; its log is $DIR/$1.log"
}

in_node() { # NODE COMMAND…
  local pid node=$1
  shift
  pid=$(node_init_pid "$node") || exit 1
  nsenter --target "$pid" --mount --pid --net --uts --cgroup "$@" 9>&-
}

is_off() { ! is_tagged "$(cat "$DIR/$1.pid" 2>/dev/null)" "$(tag "$1")"; }

start_node() { # NUMBER ALL-NUMBERS
  local number=$1 node=node-$1 settings cgroups
  mkdir -p "$DIR/$node"
  write_node_identity "$node"
  write_node_settings "$number"
  make_cgroups "$node"
  mapfile -t cgroups < <(sed 's|$|/cgroup.procs|' "$DIR/$node.cgroups")
  settings=(
    NODE_DIR="$DIR/$node" NODE="$node" NODE_ADDRESS="$(node_address "$number")" ALL_PODS="$(all_pods)"
    KUBECONFIG="$DIR/stack/kubeconfig" KUBELET="$(kube_program kubelet)" KUBE_PROXY="$(kube_program kube-proxy)"
  )
  # shellcheck disable=SC2016 # the inner bash expands it
  launch "$node" env "${settings[@]}" bash -c 'init=$1; shift; for file; do echo $$ >"$file"; done
    exec unshare --mount --pid --net --uts --cgroup --fork --kill-child --mount-proc --propagation private bash "$init"' \
    start "$HACK/lib/node_init.sh" "${cgroups[@]}"
  # shellcheck disable=SC2317 # wait_until calls it
  has_network() {
    local pid own
    pid=$(node_init_pid "$node" 2>/dev/null) && own=$(readlink "/proc/$pid/ns/net") && [[ $own != "$(readlink /proc/self/ns/net)" ]]
  }
  wait_until 10 has_network || give_up "$node" "did not start"
  connect_node "$number" "$2"
}

# The certificate by which the API server knows the kubelet, signed by the control plane's CA.
write_node_identity() { # NODE
  local pki=$DIR/stack/pki folder=$DIR/$1
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj "/O=system:nodes/CN=system:node:$1" \
    -CA "$pki/ca.crt" -CAkey "$pki/ca.key" -addext extendedKeyUsage=clientAuth -addext basicConstraints=critical,CA:FALSE \
    -keyout "$folder/client.key" -out "$folder/client.crt" 2>"$folder/openssl.log" ||
    die "openssl could not make a certificate for $1: $(tail -n 3 "$folder/openssl.log")"
  cat >"$folder/kubeconfig" <<YAML
apiVersion: v1
kind: Config
clusters:
- name: local
  cluster:
    server: $(sed -n 's/^ *server: //p' "$DIR/stack/kubeconfig")
    certificate-authority: $pki/ca.crt
users:
- name: kubelet
  user: {client-certificate: $folder/client.crt, client-key: $folder/client.key}
contexts:
- name: local
  context: {cluster: local, user: kubelet}
current-context: local
YAML
}

# restrict_oom_score_adj, oomScoreAdj: root of a container or a small VM may not lower them.
# syncFrequency: a changed Secret reaches its pods within that time.
write_node_settings() { # NUMBER
  local folder=$DIR/node-$1
  mkdir -p "$folder/cni"
  cat >"$folder/containerd.toml" <<TOML
version = 2
root = '$folder/containerd'
state = '/run/node/containerd'
oom_score = 0
[grpc]
  address = '/run/node/containerd.sock'
[plugins.'io.containerd.internal.v1.opt']
  path = '/run/node/opt'
[plugins.'io.containerd.grpc.v1.cri']
  sandbox_image = '$TOOLS_IMAGE'
  restrict_oom_score_adj = true
  [plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes.runc]
    runtime_type = 'io.containerd.runc.v2'
    [plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes.runc.options]
      SystemdCgroup = false
  [plugins.'io.containerd.grpc.v1.cri'.cni]
    bin_dir = '$CNI_PLUGINS'
    conf_dir = '$folder/cni'
TOML
  cat >"$folder/cni/bridge.conflist" <<JSON
{"cniVersion": "1.0.0", "name": "pods", "plugins": [
  {"type": "bridge", "bridge": "pods", "isGateway": true, "ipMasq": false, "hairpinMode": true,
   "ipam": {"type": "host-local", "dataDir": "/run/node/cni", "ranges": [[{"subnet": "$(pods_of "$1")"}]],
            "routes": [{"dst": "0.0.0.0/0"}]}}]}
JSON
  cat >"$folder/kubelet.yaml" <<YAML
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: $(node_address "$1")
containerRuntimeEndpoint: unix:///run/node/containerd.sock
authentication: {anonymous: {enabled: false}, webhook: {enabled: false}, x509: {clientCAFile: $DIR/stack/pki/ca.crt}}
authorization: {mode: AlwaysAllow}
failCgroupV1: false
cgroupDriver: cgroupfs
cgroupRoot: /
oomScoreAdj: 0
protectKernelDefaults: true
makeIPTablesUtilChains: false
failSwapOn: false
resolvConf: ""
volumePluginDir: $folder/kubelet/plugins
podLogsDir: $folder/logs
evictionHard: {memory.available: 100Mi, nodefs.available: 1%, imagefs.available: 1%, nodefs.inodesFree: 1%}
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
nodeStatusUpdateFrequency: 4s
syncFrequency: 10s
YAML
}

# The pods' pause container, and a client for those who look at the cluster from a pod.
write_tools_image() { # OUT.tar
  local root
  root=$(mktemp -d "$DIR/tools.XXXXXX") || exit 1
  chmod 755 "$root"
  copy_programs "$root" sleep cat sh curl
  chmod -R go+rX "$root"
  oci_archive "$root" "$TOOLS_IMAGE" "$1" /bin/sleep infinity
  rm -rf "$root"
}

load_image() { # NODE IMAGE.tar
  in_node "$1" ctr --address /run/node/containerd.sock --namespace k8s.io images import - <"$2" >/dev/null ||
    die "containerd on $1 does not take $2; its own words are above"
}

# By containerd's own annotation: that of OCI holds only the tag with most who write it.
image_name() { # IMAGE.tar
  tar -xOf "$1" index.json | jq -re '.manifests[0].annotations["io.containerd.image.name"]' ||
    die "$1 is no OCI archive whose index.json says io.containerd.image.name"
}

end_node() { # NODE
  end_tagged "$(tag "$1")" KILL 1 && remove_cgroups "$1"
}
