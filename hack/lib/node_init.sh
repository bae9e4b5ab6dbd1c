# shellcheck shell=bash
# Process 1 of a node, in its own mount, process, network, host name and cgroup namespaces: containerd,
# kubelet and kube-proxy. Run by hack/lib/node.sh; what it mounts and sets ends with it.
set -euo pipefail

# Given by node.sh: the node's folder and name, the network's address and range, where the programs are.
: "${NODE_DIR:?}" "${NODE:?}" "${NODE_ADDRESS:?}" "${ALL_PODS:?}" "${KUBECONFIG:?}" "${KUBELET:?}" "${KUBE_PROXY:?}"

main() {
  # A container's root folder is made with it, and its user has to get in.
  umask 022
  echo "$NODE" >/proc/sys/kernel/hostname
  own_folders
  own_cgroups
  pretended_sysctls
  until ip -4 route show default | grep -q .; do sleep 0.05; done
  background containerd containerd --config "$NODE_DIR/containerd.toml"
  until ctr -a /run/node/containerd.sock version >/dev/null 2>&1; do sleep 0.1; done
  background kubelet "$KUBELET" --config "$NODE_DIR/kubelet.yaml" --kubeconfig "$NODE_DIR/kubeconfig" \
    --root-dir "$NODE_DIR/kubelet" --cert-dir "$NODE_DIR/kubelet/pki" --hostname-override "$NODE" --node-ip "$NODE_ADDRESS"
  # Zero: leave the kernel's tables of connections as they are, they belong to the machine.
  background kube-proxy "$KUBE_PROXY" --kubeconfig "$KUBECONFIG" --proxy-mode nftables --hostname-override "$NODE" \
    --cluster-cidr "$ALL_PODS" --metrics-bind-address 127.0.0.1:10249 --healthz-bind-address 127.0.0.1:10256 \
    --conntrack-max-per-core 0 --conntrack-min 0 --conntrack-tcp-timeout-established 0s --conntrack-tcp-timeout-close-wait 0s
  # Process 1 collects the dead of the whole node.
  while :; do wait -n || true; sleep 0.2; done
}

background() { # NAME COMMAND…
  local name=$1
  shift
  "$@" >>"$NODE_DIR/$name.log" 2>&1 &
}

# Empty ones over those of the machine, so nothing of the node lands there.
own_folders() {
  local folder
  mount --make-rprivate /
  mount --make-rshared /
  for folder in /run /var/lib /var/log; do mount -t tmpfs node "$folder"; done
  mkdir -p /run/node /run/netns /var/log/containers /var/lib/kubelet
}

# The same hierarchies, seen from the new cgroup namespace.
own_cgroups() {
  local controllers each folder
  mount -t tmpfs node /sys/fs/cgroup
  while IFS=: read -r _ controllers _; do
    [[ -n $controllers ]] || continue
    folder=/sys/fs/cgroup/${controllers#name=}
    mkdir "$folder"
    if [[ $controllers == name=* ]]; then
      mount -t cgroup -o "none,$controllers" node "$folder"
    else
      mount -t cgroup -o "$controllers" node "$folder"
      for each in ${controllers//,/ }; do [[ -e /sys/fs/cgroup/$each ]] || ln -s "$controllers" "/sys/fs/cgroup/$each"; done
    fi
  done </proc/self/cgroup
}

# The kubelet insists on these and would set them for the whole machine.
pretended_sysctls() {
  local setting file
  mkdir /run/node/sysctl
  for setting in vm/overcommit_memory=1 vm/panic_on_oom=0 kernel/panic=10 kernel/panic_on_oops=1 \
    kernel/keys/root_maxkeys=1000000 kernel/keys/root_maxbytes=25000000; do
    file=/run/node/sysctl/${setting##*/}
    echo "${setting#*=}" >"$file"
    mount --bind "$file" "/proc/sys/${setting%=*}"
  done
}

main
