# shellcheck shell=bash
# Builds the released program and collects the root folder of the image: the program, what it loads, and the
# few files that glibc and TLS read. No shell, nothing that can be written to.
#
# Why not a static program: glibc's own resolver (search domains, ndots, /etc/hosts as the kubelet writes it) is
# what the tests run on, and glibc does not promise it to static programs; musl has another one.

RELEASE_BINARY=${CARGO_TARGET_DIR:-$ROOT/target}/release/sync-operator

# Where the checkout, the build folder and Cargo's folder are must not show in the program: two machines are to
# make the same bytes.
build_release() {
  local cargo_home=${CARGO_HOME:-$HOME/.cargo} flags
  flags="--remap-path-prefix=$ROOT=/src --remap-path-prefix=$cargo_home=/cargo"
  if [[ -n ${CARGO_TARGET_DIR:-} ]]; then flags+=" --remap-path-prefix=$CARGO_TARGET_DIR=/src/target"; fi
  [[ -e $RELEASE_BINARY ]] || say "building the release of sync-operator; the first time takes about ten minutes on 2 cores …"
  RUSTFLAGS=$flags cargo_offline build --release --locked --bin sync-operator >&2 || die "the build failed; the compiler's words are above"
}

collect_root() { # BINARY DIR
  local file root=$2
  [[ ! -e $root ]] || die "$root is there already; name a folder that is not"
  install -D -m 755 "$1" "$root/sync-operator"
  while read -r file; do install -D -m 755 "$file" "$root$file"; done < <(loaded_by "$1")
  file=/etc/ssl/certs/ca-certificates.crt
  [[ -e $file ]] || die "$file is missing: install the package ca-certificates"
  install -D -m 644 "$file" "$root$file"
  printf '%s\n' root:x:0:0:root:/:/sbin/nologin nonroot:x:65532:65532:nonroot:/:/sbin/nologin >"$root/etc/passwd"
  printf '%s\n' root:x:0: nonroot:x:65532: >"$root/etc/group"
  printf '%s\n' 'passwd: files' 'group: files' 'hosts: files dns' >"$root/etc/nsswitch.conf"
  record_packages "$root"
}

# The loader and the libraries, by the paths under which they are looked for.
loaded_by() { # BINARY
  LC_ALL=C ldd "$1" | sed -nE 's|^\s*(.* => )?(/[^ ]+) \(0x.*|\2|p' | sort
}

# Where scanners look for the versions of what does not come from Cargo.lock.
record_packages() { # ROOT
  local package
  command -v dpkg-query >/dev/null || return 0
  install -D -m 644 /etc/os-release "$1/etc/os-release"
  mkdir -p "$1/var/lib/dpkg/status.d"
  for package in ca-certificates libc6 libgcc-s1; do
    dpkg-query --status "$package" >"$1/var/lib/dpkg/status.d/$package"
  done
}
