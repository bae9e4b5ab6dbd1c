# shellcheck shell=bash
# Looks at an image as the kubelet would run it: user 65532, no capability, a root folder that cannot be written
# to. First what the archive says of itself, then what is in it, then what it does. Changes nothing in it.

check_image() { # ARCHIVE
  ARCHIVE=$1
  [[ -f $ARCHIVE ]] || die "there is no archive \"$ARCHIVE\"; hack/image makes one"
  is_root || die "only root can start a container. Type: sudo hack/image check $1"
  ensure_programs runc umoci jq curl
  mkdir "$WORK/oci"
  tar -xf "$1" -C "$WORK/oci"
  CONFIG=$WORK/oci/blobs/sha256/$(oci_config "$WORK/oci")
  VERSION=$(project_version)
  [[ $(machine) == "$(uname -m)" ]] || die "$1 is for another kind of machine, so it cannot be run on this one"
  umoci unpack --image "$WORK/oci:$(jq -r "$REFERENCE" "$WORK/oci/index.json")" "$WORK/bundle" 2>"$WORK/umoci.log" >&2 ||
    die "the archive cannot be unpacked: $(tail -n 3 "$WORK/umoci.log")"
  printf '%s\n' 'apiVersion: v1' 'kind: Config' 'current-context: none' \
    'clusters: [{name: none, cluster: {server: "http://127.0.0.1:1"}}]' 'users: [{name: none, user: {}}]' \
    'contexts: [{name: none, context: {cluster: none, user: none}}]' >"$WORK/kubeconfig"
  what_it_says
  what_is_in_it
  what_it_prints
  how_it_serves
  say "all as it must be: $1"
}

REFERENCE='.manifests[0].annotations["org.opencontainers.image.ref.name"]'

machine() {
  case $(jq -r .architecture "$CONFIG") in
    amd64) echo x86_64 ;;
    arm64) echo aarch64 ;;
    *) echo unknown ;;
  esac
}

must_be() { # WHAT ACTUAL EXPECTED
  [[ $2 == "$3" ]] || die "$1 is \"$2\", must be \"$3\""
  say "✓ $1 is ${3:-empty}"
}

what_it_says() {
  must_be "the name" "$(jq -r '.manifests[0].annotations["io.containerd.image.name"]' "$WORK/oci/index.json")" \
    "localhost/sync-operator:$VERSION"
  must_be "the user" "$(jq -r .config.User "$CONFIG")" 65532:65532
  must_be "what it runs" "$(jq -c '[.config.Entrypoint, .config.Cmd]' "$CONFIG")" '[["/sync-operator"],null]'
  must_be "the title" "$(label title)" sync-operator
  must_be "the licence" "$(label licenses)" "$(sed -n 's/^license = "\(.*\)"/\1/p' Cargo.toml)"
  must_be "the description" "$(label description)" "$(sed -n 's/^description = "\(.*\)"/\1/p' Cargo.toml)"
  must_be "the version" "$(label version)" "$VERSION"
  [[ $(label revision) =~ ^([0-9a-f]{40}(-dirty)?|unknown)$ ]] || die "the revision is \"$(label revision)\", must be a commit"
  must_be "the date of the label" "$(label created)" "$(jq -r .created "$CONFIG")"
}

label() { jq -r --arg name "org.opencontainers.image.$1" '.config.Labels[$name]' "$CONFIG"; }

# Only the program, and what the loader needs for it, can be executed.
what_is_in_it() {
  local found root=$WORK/bundle/rootfs
  found=$(cd "$root" && find . -type f -perm /111 ! -name '*.so.*' | sort | xargs)
  must_be "what can be executed" "$found" ./sync-operator
  found=$(cd "$root" && find . ! -type l \( -uid 65532 -o -gid 65532 -o -perm /0022 -o -perm /6000 \) | head -n 5 | xargs)
  must_be "what user 65532 may change, or become another by" "$found" ""
  # A development build may: its backtraces are made of the paths of sources.
  [[ $ARCHIVE != *-dev.oci.tar ]] || return 0
  found=$(grep -acF SYNC_CRASH "$root/sync-operator") || true
  must_be "the number of crash points in the program" "$found" 0
  # shellcheck disable=SC2153 # ROOT is the checkout, root the image's
  found=$(grep -acF -e "$ROOT/" -e "${CARGO_HOME:-$HOME/.cargo}/" "$root/sync-operator") || true
  must_be "the number of lines in the program that name a folder of this machine" "$found" 0
}

what_it_prints() {
  must_be "--version" "$(contained /sync-operator --version)" "sync-operator $VERSION"
  contained /sync-operator crd | cmp - crds/sync.pncp.io_syncexecutions.yaml ||
    die "the CRD that it prints is not the one in crds/"
  say "✓ the CRD that it prints is the one in crds/"
  if contained /bin/sh -c true 2>"$WORK/shell.log"; then die "there is a shell in the image"; fi
  grep -q 'no such file' "$WORK/shell.log" || die "a shell does not start, but for another reason: $(cat "$WORK/shell.log")"
  say "✓ there is no shell in it"
}

# The API without database and cluster is alive, names what is missing, and ends when asked to. A resolver that
# does not work in the image would show: the database is given by a name.
how_it_serves() {
  local address pid status runner
  address=127.0.0.1:$(free_port)
  contained /sync-operator api --allow-anonymous --api-listen "$address" \
    --database-url postgres://nobody@localhost:1/none >"$WORK/api.log" 2>&1 &
  runner=$!
  wait_until 20 alive "$address" || { last_lines "$WORK/api.log"; die "the API does not answer on /healthz"; }
  pid=$(runc --root "$WORK/runc" state "$(container)" | jq -r .pid)
  status=$(cat "/proc/$pid/status")
  must_be "who it is" "$(awk '/^(Uid|Gid):/ { print $2 }' <<<"$status" | xargs)" "65532 65532"
  must_be "what it may do besides" "$(awk '/^(CapEff|CapBnd|NoNewPrivs):/ { print $2 }' <<<"$status" | sort -u | xargs)" \
    "0000000000000000 1"
  status=$(curl_local "http://$address/readyz")
  [[ $status == *"database localhost:1/none"* && $status != *lookup* ]] ||
    die "/readyz must say that there is no database at localhost, though the name is known; it says: $status"
  say "✓ /readyz names what is missing: $status"
  runc --root "$WORK/runc" kill "$(container)" TERM
  wait "$runner" || { last_lines "$WORK/api.log"; die "SIGTERM must end it with code 0"; }
  say "✓ SIGTERM ends it with code 0"
}

alive() { curl_local --fail -o /dev/null "http://$1/healthz"; } # ADDRESS

# On the network of this machine, so that the API can be asked; all else is the container's own.
contained() { # COMMAND… without blanks in its words
  local config=$WORK/bundle/config.json
  [[ -e $config.unpacked ]] || cp "$config" "$config.unpacked"
  jq --arg work "$WORK" --arg command "$*" '.process.args = ($command | split(" "))
    | .process.env += ["KUBECONFIG=/kubeconfig"] | .process.terminal = false | .process.capabilities = {} | .root.readonly = true
    | .linux.namespaces |= map(select(.type != "network"))
    | .mounts += ([["/etc/hosts", "/etc/hosts"], ["/etc/resolv.conf", "/etc/resolv.conf"], [$work + "/kubeconfig", "/kubeconfig"]]
      | map({type: "bind", source: .[0], destination: .[1], options: ["rbind", "ro"]}))' \
    "$config.unpacked" >"$config"
  runc --root "$WORK/runc" run --bundle "$WORK/bundle" "$(container)"
}

container() { echo "sync-operator-image-$$"; }

end_containers() {
  runc --root "$WORK/runc" delete --force "$(container)" 2>/dev/null || true
}
