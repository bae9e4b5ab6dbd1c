# shellcheck shell=bash
# Gets the programs of the control plane: from KUBEBUILDER_ASSETS if that is set, else built once from the
# Go modules that hack/tools/go.mod pins, into the user's cache folder. Starts no server.

TOOLS=$HACK/tools
KUBE_VERSION=$(sed -n 's|^[[:space:]]*k8s.io/kubernetes \(v[0-9.]*\).*|\1|p' "$TOOLS/go.mod" | head -n 1)
KUBE_CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/sync-operator/kubernetes-$KUBE_VERSION

# Where a program of the control plane is: echoes its path whether it is there yet or not.
kube_program() {
  if [[ -n ${KUBEBUILDER_ASSETS:-} && -x $KUBEBUILDER_ASSETS/$1 ]]; then
    echo "$KUBEBUILDER_ASSETS/$1"
  else
    echo "$KUBE_CACHE/$1"
  fi
}

go_package() {
  case $1 in
    etcd) echo go.etcd.io/etcd/server/v3 ;;
    *) echo "k8s.io/kubernetes/cmd/$1" ;;
  esac
}

time_to_build() {
  case $1 in
    etcd) echo "under a minute" ;;
    kube-apiserver) echo "about 5 minutes on 2 cores" ;;
    kube-controller-manager) echo "about 2 minutes on 2 cores" ;;
    *) echo "about half a minute" ;;
  esac
}

# What was built from other versions than the present ones counts as missing.
kube_missing() { # PROGRAM…
  local program stamp
  stamp=$(kube_stamp)
  for program in "$@"; do
    [[ $(kube_program "$program") == "$KUBE_CACHE"/* ]] || continue
    [[ -x $KUBE_CACHE/$program && $(cat "$KUBE_CACHE/$program.from" 2>/dev/null) == "$stamp" ]] || echo "$program"
  done
}

kube_stamp() { cat "$TOOLS/go.mod" "$TOOLS/go.sum" | cksum | tr ' ' -; }

# Two runs at the same time build once: the second waits for the first.
ensure_kube_programs() { # PROGRAM…
  local program
  [[ -n $KUBE_VERSION ]] || die "$TOOLS/go.mod names no version of k8s.io/kubernetes"
  if [[ -n ${KUBEBUILDER_ASSETS:-} ]]; then
    for program in etcd kube-apiserver kubectl; do
      [[ -x $KUBEBUILDER_ASSETS/$program ]] ||
        die "KUBEBUILDER_ASSETS=$KUBEBUILDER_ASSETS holds no $program. Correct it, or unset it to have $program built."
    done
  fi
  [[ -n $(kube_missing "$@") ]] || return 0
  mkdir -p "$KUBE_CACHE"
  (
    flock -n 8 || { say "waiting for another run that builds the control plane …"; flock 8; }
    for program in $(kube_missing "$@"); do
      go_build "$program"
      kube_stamp >"$KUBE_CACHE/$program.from"
    done
  ) 8>"$KUBE_CACHE/lock" || exit 1
}

go_build() { # PROGRAM
  local stamp=k8s.io/component-base/version version=${KUBE_VERSION#v} begin=$SECONDS
  command -v go >/dev/null ||
    die "go is missing: it builds $1 $KUBE_VERSION. Install Go $(sed -n 's/^go //p' "$TOOLS/go.mod") or newer (https://go.dev/dl/), or set KUBEBUILDER_ASSETS to a folder with etcd, kube-apiserver and kubectl."
  say "building $1 from Go modules, once, $(time_to_build "$1"): $KUBE_CACHE/$1 …"
  (cd "$TOOLS" && GOWORK=off go build -trimpath -o "$KUBE_CACHE/$1.new" -ldflags "-s -w \
    -X $stamp.gitVersion=$KUBE_VERSION -X $stamp.gitMajor=${version%%.*} -X $stamp.gitMinor=$(cut -d. -f2 <<<"$version")" \
    "$(go_package "$1")") </dev/null >&2 8>&- 9>&- || die "go could not build $1; its own words are above"
  mv "$KUBE_CACHE/$1.new" "$KUBE_CACHE/$1"
  say "built $1 in $((SECONDS - begin)) s"
}
