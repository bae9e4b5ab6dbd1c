# shellcheck shell=bash
# Gets tools that are programs of their own, in the versions pinned here, built once for all checkouts into the
# user's cache folder. What comes with the distribution is in packages.sh, the control plane in kube_build.sh.

TOOLS_CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/sync-operator/tools

tool_version() { # NAME
  case $1 in
    cargo-deny) echo 0.20.2 ;;
    cargo-cyclonedx) echo 0.5.9 ;;
    actionlint) echo 1.7.12 ;;
    *) die "no version of $1 is pinned in hack/lib/tools.sh" ;;
  esac
}

tool() { echo "$TOOLS_CACHE/bin/$1"; } # NAME

ensure_tool() { # NAME
  local name=$1 version
  version=$(tool_version "$name")
  [[ $(tool_there "$name") != *"$version" ]] || return 0
  say "building $name $version, once, some minutes: $(tool "$name") …"
  case $name in
    cargo-*) cargo_offline install --locked --quiet --version "$version" --root "$TOOLS_CACHE" "$name" ;;
    actionlint)
      command -v go >/dev/null || die "go is missing: it builds $name. Install Go from https://go.dev/dl/"
      GOBIN=$TOOLS_CACHE/bin go install "github.com/rhysd/actionlint/cmd/actionlint@v$version" </dev/null
      ;;
  esac >&2 || die "$name could not be built; the compiler's words are above"
}

# A subcommand of Cargo is given its own name first, as Cargo does it.
tool_there() { # NAME
  local arguments=(--version)
  if [[ $1 == cargo-* ]]; then arguments=("${1#cargo-}" --version); fi
  "$(tool "$1")" "${arguments[@]}" 2>/dev/null | head -n 1 || true
}
