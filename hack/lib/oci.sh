# shellcheck shell=bash
# Packs programs of this machine, with the libraries they load, into an image: what a test cluster needs
# beside the operator. Not for images that are given to anybody.

# An image with one layer, as an OCI archive.
oci_archive() { # ROOT-FOLDER REFERENCE OUT.tar ENTRYPOINT…
  local root=$1 name=$2 out=$3 work layer config manifest
  shift 3
  work=$(mktemp -d "$out.XXXXXX") || exit 1
  mkdir -p "$work/blobs/sha256"
  tar -C "$root" --numeric-owner --owner=0 --group=0 --sort=name --mtime=@0 -cf "$work/layer" .
  layer=$(oci_blob "$work" "$work/layer")
  jq -nc --arg layer "sha256:$layer" --arg arch "$(oci_architecture)" \
    '{architecture: $arch, os: "linux", config: {Entrypoint: $ARGS.positional, Env: ["PATH=/bin"]},
      rootfs: {type: "layers", diff_ids: [$layer]}}' --args "$@" >"$work/config"
  config=$(oci_blob "$work" "$work/config")
  jq -nc --argjson config "$(oci_descriptor "$work" "$config" config.v1+json)" \
    --argjson layer "$(oci_descriptor "$work" "$layer" layer.v1.tar)" \
    '{schemaVersion: 2, mediaType: "application/vnd.oci.image.manifest.v1+json", config: $config, layers: [$layer]}' >"$work/manifest"
  manifest=$(oci_blob "$work" "$work/manifest")
  oci_descriptor "$work" "$manifest" manifest.v1+json | jq -c --arg name "$name" \
    '{schemaVersion: 2, manifests: [. + {annotations: {"io.containerd.image.name": $name}}]}' >"$work/index.json"
  echo '{"imageLayoutVersion":"1.0.0"}' >"$work/oci-layout"
  tar -C "$work" -cf "$out" oci-layout index.json blobs
  rm -rf "$work"
}

oci_blob() { # WORK FILE, which is moved to its place
  local sum
  sum=$(sha256sum <"$2" | cut -d' ' -f1)
  mv "$2" "$1/blobs/sha256/$sum"
  echo "$sum"
}

oci_descriptor() { # WORK SUM TYPE
  jq -nc --arg type "application/vnd.oci.image.$3" --arg digest "sha256:$2" \
    --argjson size "$(stat -c %s "$1/blobs/sha256/$2")" '{mediaType: $type, digest: $digest, size: $size}'
}

oci_architecture() {
  case $(uname -m) in
    x86_64) echo amd64 ;;
    aarch64) echo arm64 ;;
    *) uname -m ;;
  esac
}

# Programs go to /bin, libraries to where the loader looks for them.
copy_programs() { # ROOT-FOLDER PROGRAM…
  local root=$1 program path library
  shift
  for program in "$@"; do
    path=$(realpath "$(command -v "$program")")
    install -D -m 755 "$path" "$root/bin/${program##*/}"
    while read -r library; do
      [[ -e $root$library ]] || install -D -m 755 "$(realpath "$library")" "$root$library"
    done < <(ldd "$path" | grep -o '/[^ ]*')
  done
}
