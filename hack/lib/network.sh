# shellcheck shell=bash
# The network of a cluster, all within one range 10.N.0.0/16 that is free on this machine:
#   10.N.K.0/24     pods of node K
#   10.N.128.0/18   services
#   10.N.192.0/24   "control" (.1: control plane, PostgreSQL, RabbitMQ; it forwards) and the nodes (.10 + K)
#   10.N.193.0/30   the machine (.1) and control (.2)
# On the machine itself there is one veth and one route. From inside nothing leads to the machine or beyond.

net() { cat "$DIR/net"; }
pods_of() { echo "$(net).$1.0/24"; }
all_pods() { echo "$(net).0.0/17"; }
service_range() { echo "$(net).128.0/18"; }
control_address() { echo "$(net).192.1"; }
node_address() { echo "$(net).192.$((10 + $1))"; }
veth() {
  local id
  id=$(stack_id)
  echo "sync-${id: -8}"
}

# In the network of control.
in_control() {
  local pid
  pid=$(cat "$DIR/control.pid" 2>/dev/null) || true
  is_tagged "$pid" "$(tag control)" || die "no cluster is up in $DIR. Type: hack/cluster up $DIR"
  nsenter --net="/proc/$pid/ns/net" "$@" 9>&-
}

make_network() {
  launch control unshare --net sleep infinity
  local pid
  pid=$(cat "$DIR/control.pid")
  # shellcheck disable=SC2317 # wait_until calls it
  has_own_network() { [[ $(readlink "/proc/$pid/ns/net") != "$(readlink /proc/self/ns/net)" ]]; }
  wait_until 10 has_own_network || give_up control "got no network of its own"
  ip link add "$(veth)" type veth peer name machine netns "$pid"
  ip link set "$(veth)" up
  claim_range
  in_control bash -euo pipefail -s "$(net)" <<'SETUP'
ip link set lo up
ip address add "$1.193.2/30" dev machine
ip link set machine up
ip link add nodes type bridge
ip address add "$1.192.1/24" dev nodes
ip link set nodes up
sysctl -q -w net.ipv4.ip_forward=1
nft -f - <<'RULES'
table ip nothing-goes-out {
  chain forward {
    type filter hook forward priority filter
    oifname "machine" ct state new drop
  }
  chain output {
    type filter hook output priority filter
    oifname "machine" ct state new drop
  }
}
RULES
SETUP
}

# Adding the route is what takes the range: a second cluster that chose the same one is refused it.
claim_range() {
  local range
  for _ in {1..50}; do
    range=10.$((64 + RANDOM % 128))
    [[ -z $(ip -4 route show root "$range.0.0/16"; ip -4 route show match "$range.0.0/16" | grep -v ^default) ]] || continue
    ip address add "$range.193.1/30" dev "$(veth)" 2>/dev/null || continue
    if ip route add "$range.0.0/16" via "$range.193.2" dev "$(veth)" 2>/dev/null; then
      echo "$range" >"$DIR/net"
      return
    fi
    ip address del "$range.193.1/30" dev "$(veth)"
  done
  die "no free range 10.N.0.0/16 was found among the routes of this machine"
}

# A cable between the bridge of control and the node's eth0.
connect_node() { # NUMBER ALL-NUMBERS
  local number=$1 pid other
  pid=$(node_init_pid "node-$number")
  in_control ip link add "node-$number" master nodes type veth peer name eth0 netns "$pid"
  in_control ip link set "node-$number" up
  in_control ip route replace "$(pods_of "$number")" via "$(node_address "$number")"
  nsenter --net="/proc/$pid/ns/net" bash -euo pipefail -s "$(node_address "$number")" "$(control_address)" <<'SETUP'
ip link set lo up
ip address add "$1/24" dev eth0
ip link set eth0 up
sysctl -q -w net.ipv4.ip_forward=1
ip route add default via "$2"
SETUP
  for other in $2; do
    [[ $other == "$number" ]] ||
      nsenter --net="/proc/$pid/ns/net" ip route add "$(pods_of "$other")" via "$(node_address "$other")"
  done
}

remove_network() {
  end_tagged "$(tag control)" KILL 1
  # It goes with the namespace, a moment later.
  ip link del "$(veth)" 2>/dev/null || true
}
