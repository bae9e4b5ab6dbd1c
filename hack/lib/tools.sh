# shellcheck shell=bash
# Gets tools that are programs of their own, in the versions pinned here, built once for all checkouts into the
# user's cache folder. What comes with the distribution is in packages.sh, the control plane in kube_build.sh.

TOOLS_CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/sync-operator/tools

tool_version() { # NAME
  case $1 in
    cargo-deny) echo 0.20.2 ;;
    cargo-cyclonedx) echo 0.5.9 ;;
    actionlint) echo 1.7.12 ;;
    helm) echo 4.3.1 ;;
    helm-docs) echo 1.14.2 ;;
    *) die "no version of $1 is pinned in hack/lib/tools.sh" ;;
  esac
}

# The Go package of a tool that is not a crate.
tool_package() { # NAME
  case $1 in
    actionlint) echo github.com/rhysd/actionlint/cmd/actionlint ;;
    helm) echo helm.sh/helm/v4/cmd/helm ;;
    helm-docs) echo github.com/norwoodj/helm-docs/cmd/helm-docs ;;
  esac
}

# HELM names a helm to use instead of the pinned one.
tool() { # NAME
  if [[ $1 == helm && -n ${HELM:-} ]]; then echo "$HELM"; else echo "$TOOLS_CACHE/bin/$1"; fi
}

# Two runs at the same time build once: the second waits for the first.
ensure_tool() { # NAME
  if [[ $1 == helm && -n ${HELM:-} ]]; then
    [[ -x $HELM ]] || die "HELM=$HELM is no program. Correct it, or unset it to have helm $(tool_version helm) built."
    return
  fi
  ! has_tool "$1" || return 0
  mkdir -p "$TOOLS_CACHE"
  (
    flock -n 8 || { say "waiting for another run that builds tools …"; flock 8; }
    has_tool "$1" || build_tool "$1"
  ) 8>"$TOOLS_CACHE/lock" || exit 1
}

# What a Go program was built from is written in it; not all of them tell it by themselves.
has_tool() { # NAME
  local version
  version=$(tool_version "$1")
  if [[ -n $(tool_package "$1") ]]; then
    [[ $(go version -m "$(tool "$1")" 2>/dev/null | awk '$1 == "mod" { print $3 }') == "v$version" ]]
  else
    # A subcommand of Cargo is given its own name first, as Cargo does it.
    [[ $("$(tool "$1")" "${1#cargo-}" --version 2>/dev/null | head -n 1) == *"$version" ]]
  fi
}

build_tool() { # NAME
  local version package
  version=$(tool_version "$1")
  package=$(tool_package "$1")
  say "building $1 $version, once, some minutes: $(tool "$1") …"
  if [[ -z $package ]]; then
    cargo_offline install --locked --quiet --version "$version" --root "$TOOLS_CACHE" "$1" >&2 8>&-
  else
    command -v go >/dev/null || die "go is missing: it builds $1. Install Go from https://go.dev/dl/"
    GOWORK=off GOBIN=$TOOLS_CACHE/bin go install -trimpath "$package@v$version" </dev/null >&2 8>&- 9>&-
  fi || die "$1 could not be built; the compiler's words are above"
}
