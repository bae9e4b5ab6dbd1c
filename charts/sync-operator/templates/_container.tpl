{{/* What the containers have in common. Renders nothing by itself. */}}

{{- define "sync-operator.container" -}}
image: {{ include "sync-operator.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  privileged: false
  readOnlyRootFilesystem: true
  runAsNonRoot: true
  capabilities: {drop: [ALL]}
{{- end }}

{{- define "sync-operator.commonEnv" -}}
- {name: LOG_LEVEL, value: {{ .Values.log.level | quote }}}
- {name: LOG_FORMAT, value: {{ .Values.log.format | quote }}}
- {name: WORKER_TIMEZONE, value: {{ .Values.workerTimezone | quote }}}
{{- end }}

{{- define "sync-operator.databaseEnv" -}}
- {name: DATABASE_URL_FILE, value: /etc/sync-operator/database/url}
- {name: DATABASE_MAX_CONNECTIONS, value: {{ .Values.database.maxConnections | int | quote }}}
{{- end }}

{{/* Of a port by its name; why so is told in the Deployment. */}}
{{- define "sync-operator.probes" -}}
startupProbe:
  httpGet: {path: /readyz, port: {{ . }}}
  periodSeconds: 2
  timeoutSeconds: 10
  failureThreshold: 43200
readinessProbe:
  httpGet: {path: /healthz, port: {{ . }}}
  periodSeconds: 5
  timeoutSeconds: 2
  failureThreshold: 2
livenessProbe:
  httpGet: {path: /healthz, port: {{ . }}}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
{{- end }}
