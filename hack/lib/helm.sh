# shellcheck shell=bash
# Gets helm and helm-docs: built once from Go modules, at pinned versions, for all checkouts of this user. Runs neither.

HELM_VERSION=v4.3.1
HELM_DOCS_VERSION=v1.14.2
GO_BIN=${XDG_CACHE_HOME:-$HOME/.cache}/sync-operator/tools/bin

# HELM names a helm to use instead of the pinned one.
helm_program() { echo "${HELM:-$GO_BIN/helm}"; }

ensure_helm() {
  if [[ -n ${HELM:-} ]]; then
    [[ -x $HELM ]] || die "HELM=$HELM is no program. Correct it, or unset it to have helm $HELM_VERSION built."
    return
  fi
  ensure_go_tool helm helm.sh/helm/v4/cmd/helm "$HELM_VERSION"
}

ensure_helm_docs() { ensure_go_tool helm-docs github.com/norwoodj/helm-docs/cmd/helm-docs "$HELM_DOCS_VERSION"; }

# Two runs at the same time build once: the second waits for the first.
ensure_go_tool() { # NAME PACKAGE VERSION
  [[ $(go_tool_version "$1") == "$3" ]] && return
  command -v go >/dev/null || die "go is missing: it builds $1 $3. Install Go (https://go.dev/dl/) and try again."
  mkdir -p "$GO_BIN"
  (
    flock -n 8 || { say "waiting for another run that builds $1 …"; flock 8; }
    [[ $(go_tool_version "$1") == "$3" ]] && exit
    say "building $1 $3 from Go modules, once, about 2 minutes: $GO_BIN/$1 …"
    GOWORK=off GOFLAGS=-mod=mod GOBIN=$GO_BIN go install -trimpath "$2@$3" </dev/null >&2 8>&- 9>&- ||
      die "go could not build $1; its own words are above"
  ) 8>"$GO_BIN/.lock" || exit 1
}

# What the program was built from; nothing when it is not there.
go_tool_version() { # NAME
  go version -m "$GO_BIN/$1" 2>/dev/null | awk '$1 == "mod" { print $3 }'
}
