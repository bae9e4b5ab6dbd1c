# shellcheck shell=bash
# The cgroups of a node. Version 1: one below our own in every hierarchy, so that the limits of whoever started us
# hold for the node, too. Version 2: one below the root, since a cgroup that holds processes, as ours does,
# cannot hand on its controllers.

has_cgroups_1() { grep -qE ':([a-z_,]+,)?memory(,[a-z_,]+)?:' /proc/self/cgroup; }

cgroup_parents() {
  local controllers path
  has_cgroups_1 || { echo /sys/fs/cgroup; return; }
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
    # Without them nothing may run in a cpuset of version 1.
    if [[ -e $parent/cpuset.cpus ]] && has_cgroups_1; then
      cat "$parent/cpuset.cpus" >"$parent/$name/cpuset.cpus"
      cat "$parent/cpuset.mems" >"$parent/$name/cpuset.mems"
    fi
  done < <(cgroup_parents)
}

# The files by which a process joins them, and then, once they are the root of its cgroup namespace, the
# place in it where the node's own processes are: version 2 wants none in a cgroup with children.
cgroup_doors() { sed 's|$|/cgroup.procs|' "$DIR/$1.cgroups"; } # NODE
inner_cgroup_door() { # NODE
  local path
  has_cgroups_1 && return
  path=$(cat "$DIR/$1.cgroups")/node
  mkdir "$path"
  echo "$path/cgroup.procs"
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
