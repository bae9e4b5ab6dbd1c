# shellcheck shell=bash
# Whether this machine can carry a cluster of hack/cluster. Changes nothing: what it tries, it tries in
# namespaces that end with the try.

# Nothing, or the first reason why not, with what to do.
why_not() {
  [[ $(uname -s) == Linux ]] || { echo "it needs Linux, this is $(uname -s)"; return; }
  is_root || { echo "it makes namespaces and cgroups, so it needs root"; return; }
  why_no_cgroups
  why_no_programs
  why_no_namespaces
}

# The nodes mount the hierarchies of version 1; version 2 is not yet made to work.
why_no_cgroups() {
  local controller
  for controller in cpu cpuacct cpuset memory devices freezer pids; do
    grep -qE ":([a-z_,]+,)?$controller(,[a-z_,]+)?:" /proc/self/cgroup || {
      echo "the controller $controller is not mounted as cgroup version 1: the nodes here are made for version 1 only. A cluster of your own can be used: KUBECONFIG=…"
      return
    }
  done
  while read -r controller; do
    [[ -w $controller ]] || echo "the cgroup $controller cannot be written"
  done < <(cgroups_of_self) | head -n 1
}

why_no_programs() {
  local program missing=()
  command -v apt-get >/dev/null && return
  for program in "${CLUSTER_PROGRAMS[@]}"; do has_program "$program" || missing+=("$program"); done
  ((${#missing[@]} == 0)) || echo "missing: ${missing[*]}"
}

why_no_namespaces() {
  local words
  words=$(unshare --mount --pid --net --uts --cgroup --fork --mount-proc bash -ec \
    'mount -t tmpfs none /mnt; ip link add name br0 type bridge; ip link add name one type veth peer name two' 2>&1) ||
    echo "namespaces with a bridge and a veth cannot be made: ${words##*$'\n'}"
}
