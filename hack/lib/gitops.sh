# shellcheck shell=bash
# Builds the program of tests/gitops into the target folder, anew only when its sources change. Needs project.sh.

GITOPS_TARGET=${CARGO_TARGET_DIR:-$ROOT/target}/gitops

# Named by its sources, so that one that is there is the right one.
gitops_program() { echo "$GITOPS_TARGET/gitops-$(cat "$ROOT"/tests/gitops/{main.go,go.mod,go.sum} | cksum | tr ' ' -)"; }

# Two runs at the same time build once: the second waits for the first.
ensure_gitops() {
  local program
  program=$(gitops_program)
  [[ ! -x $program ]] || return 0
  command -v go >/dev/null || die "go is missing: it builds tests/gitops. Install Go from https://go.dev/dl/"
  mkdir -p "$GITOPS_TARGET"
  (
    flock 8
    [[ ! -x $program ]] || exit 0
    say "building tests/gitops, once, about a minute: $program …"
    cd "$ROOT/tests/gitops"
    GOWORK=off go build -trimpath -o "$program.new" . </dev/null >&2 8>&- 9>&- && mv "$program.new" "$program"
  ) 8>"$GITOPS_TARGET/lock" || die "tests/gitops could not be built; the compiler's words are above"
}
