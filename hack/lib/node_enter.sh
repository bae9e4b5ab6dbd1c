# shellcheck shell=bash
# Goes into the cgroups of a node and then into namespaces of its own, where the script that is named becomes
# process 1. Run by hack/lib/node.sh.
set -euo pipefail

: "${CGROUP_DOORS:?}" "${INNER_CGROUP_DOOR=}"

if [[ ${1:-} != --inside ]]; then
  while read -r door; do echo $$ >"$door"; done <<<"$CGROUP_DOORS"
  exec unshare --cgroup bash "${BASH_SOURCE[0]}" --inside "$@"
fi
[[ -z $INNER_CGROUP_DOOR ]] || echo $$ >"$INNER_CGROUP_DOOR"
exec unshare --mount --pid --net --uts --fork --kill-child --mount-proc --propagation private bash "$2"
