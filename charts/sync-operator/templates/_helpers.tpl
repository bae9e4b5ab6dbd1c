{{/* Names, labels, and which Secret holds what. Renders nothing by itself. */}}

{{- define "sync-operator.fullname" -}}
{{- if .Values.fullnameOverride }}{{ .Values.fullnameOverride }}
{{- else if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "sync-operator.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "sync-operator.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "sync-operator.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- with .Values.labels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "sync-operator.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (ternary (include "sync-operator.fullname" .) "default" .Values.serviceAccount.create) }}
{{- end }}

{{- define "sync-operator.image" -}}
{{- if .Values.image.digest }}{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else }}{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}
{{- end }}

{{- define "sync-operator.forceNamespace" -}}
{{- .Values.api.force.namespace | default .Release.Namespace }}
{{- end }}

{{/* Each of these three gives the Secret and the keys in it, whatever form was chosen. */}}

{{- define "sync-operator.databaseSource" -}}
{{- with .Values.database -}}
{{- if .existingSecret.name }}{name: {{ .existingSecret.name }}, key: {{ .existingSecret.key }}}
{{- else if .cloudNativePG.cluster }}{name: {{ .cloudNativePG.cluster }}-app, key: uri}
{{- else }}{name: {{ include "sync-operator.fullname" $ }}-database, key: url}
{{- end }}
{{- end }}
{{- end }}

{{- define "sync-operator.rabbitmqSource" -}}
{{- with .Values.rabbitmq -}}
{{- if .existingSecret.name }}{name: {{ .existingSecret.name }}, key: {{ .existingSecret.key }}}
{{- else if .clusterOperator.cluster }}{name: {{ .clusterOperator.cluster }}-default-user, key: connection_string}
{{- else }}{name: {{ include "sync-operator.fullname" $ }}-rabbitmq, key: url}
{{- end }}
{{- end }}
{{- end }}

{{- define "sync-operator.adminSource" -}}
{{- with .Values.api.auth.existingSecret -}}
{{- if .name }}{name: {{ .name }}, usernameKey: {{ .usernameKey }}, passwordKey: {{ .passwordKey }}}
{{- else }}{name: {{ include "sync-operator.fullname" $ }}-admin, usernameKey: username, passwordKey: password}
{{- end }}
{{- end }}
{{- end }}

{{/* The volume with a CA; nothing when there is none. CloudNativePG has one of its own. */}}
{{- define "sync-operator.caVolume" -}}
{{- $ca := .from.ca -}}
{{- $cluster := dig "cloudNativePG" "cluster" "" .from -}}
{{- if $ca.existingConfigMap.name }}
configMap: {name: {{ $ca.existingConfigMap.name }}, defaultMode: 288, items: [{key: {{ $ca.existingConfigMap.key }}, path: ca.crt}]}
{{- else if $ca.existingSecret.name }}
secret: {secretName: {{ $ca.existingSecret.name }}, defaultMode: 288, items: [{key: {{ $ca.existingSecret.key }}, path: ca.crt}]}
{{- else if $cluster }}
secret: {secretName: {{ $cluster }}-ca, defaultMode: 288, items: [{key: ca.crt, path: ca.crt}]}
{{- end }}
{{- end }}
