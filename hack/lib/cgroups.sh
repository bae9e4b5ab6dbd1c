# shellcheck shell=bash
# The cgroups (version 1) of a node: one below our own in every hierarchy, so that the limits of whoever
# started us hold for the nodes, too.

cgroups_of_self() {
  local controllers path
  while IFS=: read -r _ controllers path; do
    [[ -z $controllers ]] || echo "/sys/fs/cgroup/${controllers#name=}${path%/}"
  done </proc/self/cgroup
}

make_cgroups() { # NODE; writes their paths to DIR/NODE.cgroups
  local parent name
  name=$(stack_id)-$1
  : >"$DIR/$1.cgroups"
  while read -r parent; do
    echo "$parent/$name" >>"$DIR/$1.cgroups"
    mkdir -p "$parent/$name" || die "the cgroup $parent/$name could not be made"
    # Without them nothing may run in a cpuset.
    if [[ -e $parent/cpuset.cpus ]]; then
      cat "$parent/cpuset.cpus" >"$parent/$name/cpuset.cpus"
      cat "$parent/cpuset.mems" >"$parent/$name/cpuset.mems"
    fi
  done < <(cgroups_of_self)
}

# Only when nothing of the node lives: a directory that is a mount point in a living one would vanish there.
remove_cgroups() { # NODE
  local path
  [[ -e $DIR/$1.cgroups ]] || return 0
  while read -r path; do
    # shellcheck disable=SC2317 # wait_until calls it
    removed() { [[ ! -d $path ]] || find "$path" -depth -type d -exec rmdir {} + 2>/dev/null; }
    wait_until 10 removed || { say "the cgroup $path is still in use"; return 1; }
  done <"$DIR/$1.cgroups"
  rm "$DIR/$1.cgroups"
}
