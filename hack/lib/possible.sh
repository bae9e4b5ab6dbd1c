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

why_no_cgroups() {
  local controller
  for controller in cpu memory pids; do
    if has_cgroups_1; then
      grep -qE ":([a-z_,]+,)?$controller(,[a-z_,]+)?:" /proc/self/cgroup
    else
      grep -qsw "$controller" /sys/fs/cgroup/cgroup.subtree_control
    fi || { echo "the cgroup controller $controller is not there for the nodes to use (in a container it mostly is not)"; return; }
  done
  while read -r controller; do
    [[ -w $controller ]] || echo "the cgroup $controller cannot be written"
  done < <(cgroup_parents)
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
