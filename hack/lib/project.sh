# shellcheck shell=bash
# How the scripts in hack/ build the project and its sample worker. Starts no server.

ROOT=$(cd "$HACK/.." && pwd)
DEV=$ROOT/.dev
INGESTOR=$ROOT/examples/ingestor
BINARY=${CARGO_TARGET_DIR:-$ROOT/target}/debug/sync-operator

# The SQL in the code is checked against the committed .sqlx, never against a database that happens to be
# in the environment.
cargo_offline() {
  command -v cargo >/dev/null || die "cargo is missing. Install Rust $(rust_version) or newer from https://rustup.rs and try again."
  # A test that builds something has variables of cargo about this package: build scripts that read their own would see
  # those, and half of the dependencies be compiled anew, beside the tests.
  local name without=(-u DATABASE_URL)
  for name in "${!CARGO_MANIFEST_@}" "${!CARGO_PKG_@}"; do without+=(-u "$name"); done
  (cd "$ROOT" && env "${without[@]}" SQLX_OFFLINE=true cargo "$@") </dev/null 9>&-
}

project_version() { sed -n 's/^version = "\(.*\)"/\1/p' "$ROOT/Cargo.toml"; }

rust_version() { sed -n 's/^rust-version = "\(.*\)"/\1/p' "$ROOT/Cargo.toml"; }

build_binary() {
  [[ -e $BINARY ]] || say "building sync-operator; the first time takes some minutes …"
  cargo_offline build --locked >&2 || die "the build failed; the compiler's words are above"
}

# The sample worker's Python packages, in .dev/venv.
ensure_venv() { # REQUIREMENTS-FILE…
  local file stamp
  ensure_programs python3 venv
  python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    die "the sample worker needs Python 3.11 or newer; python3 is $(python3 --version 2>&1)"
  [[ -x $DEV/venv/bin/python ]] || python3 -m venv "$DEV/venv" || die "could not make $DEV/venv; Python's words are above"
  for file in "$@"; do
    stamp=$DEV/venv/$file.installed
    if ! cmp -s "$INGESTOR/$file" "$stamp"; then
      say "installing the Python packages of examples/ingestor/$file …"
      "$DEV/venv/bin/pip" install --quiet --disable-pip-version-check --require-hashes -r "$INGESTOR/$file" </dev/null >&2 ||
        die "pip could not install examples/ingestor/$file; its own words are above"
      cp "$INGESTOR/$file" "$stamp"
    fi
  done
}
