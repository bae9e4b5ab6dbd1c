# shellcheck shell=bash
# Writes what is made for those who install: the chart's copy of crds/, its version and its README, and deploy/, which is the
# chart rendered for those who do without helm.

CHART=charts/sync-operator

generate_chart() {
  ensure_tool helm
  ensure_tool helm-docs
  rm -rf "$CHART/files/crds"
  mkdir -p "$CHART/files/crds" deploy/kustomize
  cp crds/*.yaml "$CHART/files/crds/"
  write_chart_version
  "$(tool helm-docs)" --log-level warning --chart-search-root "$CHART" --skip-version-footer --sort-values-order file
  write_deploy
}

# One version for program and chart.
write_chart_version() {
  local version
  version=$(project_version)
  sed -i -e "s/^version: .*/version: $version/" -e "s/^appVersion: .*/appVersion: \"$version\"/" "$CHART/Chart.yaml"
}

write_deploy() {
  render --set crds.keep=false --show-only templates/crd.yaml >"$WORK/crd.yaml"
  render --set crds.enabled=false >"$WORK/operator.yaml"
  cp "$WORK/crd.yaml" "$WORK/operator.yaml" deploy/kustomize/
  cat deploy/header.yaml deploy/kustomize/{namespace,crd,operator}.yaml >deploy/install.yaml
}

# Without what only means something to helm.
render() { # ARGUMENT…
  "$(tool helm)" template sync-operator "$CHART" --namespace sync-operator --values deploy/values.yaml "$@" >"$WORK/rendered" ||
    die "the chart cannot be rendered; helm's words are above"
  sed -e '/^# Source: /d' -e '/app.kubernetes.io\/managed-by: Helm$/d' -e '/helm.sh\/chart: /d' "$WORK/rendered"
}
