{{/* What the schema cannot say: which values go together. All mistakes are told at once, each with what to set. */}}
{{- define "sync-operator.validate" -}}
{{- $v := .Values -}}
{{- $wrong := concat
      (include "sync-operator.wrongDatabase" . | fromYamlArray)
      (include "sync-operator.wrongRabbitmq" . | fromYamlArray)
      (include "sync-operator.wrongApi" . | fromYamlArray)
      (include "sync-operator.wrongPlace" . | fromYamlArray)
      (include "sync-operator.wrongKinds" . | fromYamlArray) -}}
{{- with $wrong -}}
{{- fail (printf "\n\nThese values cannot be used (all of them are described by: helm show values):\n  - %s\n" (join "\n  - " .)) -}}
{{- end -}}
{{- end }}

{{- define "sync-operator.wrongDatabase" -}}
{{- with .Values.database }}
{{- $forms := list .url .existingSecret.name .cloudNativePG.cluster | compact | len }}
{{- if eq $forms 0 }}
- "no database: set database.existingSecret.name (a Secret with the URL in its key {{ .existingSecret.key }}), database.cloudNativePG.cluster, or database.url"
{{- else if gt $forms 1 }}
- "more than one database: set only one of database.url, database.existingSecret.name, database.cloudNativePG.cluster"
{{- end }}
{{- if and .url (not (regexMatch "^postgres(ql)?://" .url)) }}
- "database.url does not begin with postgres://: write it like postgres://user:password@host:5432/sync"
{{- end }}
{{- if and .ca.existingSecret.name .ca.existingConfigMap.name }}
- "more than one CA of the database: set only one of database.ca.existingSecret.name, database.ca.existingConfigMap.name"
{{- end }}
{{- end }}
{{- if and .Values.migrate.database.existingSecret.name (not .Values.migrate.enabled) }}
- "migrate.database.existingSecret.name is not used while migrate.enabled is false: set migrate.enabled=true, or leave it out"
{{- end }}
{{- end }}

{{- define "sync-operator.wrongRabbitmq" -}}
{{- with .Values.rabbitmq }}
{{- $forms := list .url .existingSecret.name .clusterOperator.cluster | compact | len }}
{{- $ca := or .ca.existingSecret.name .ca.existingConfigMap.name }}
{{- if eq $forms 0 }}
- "no broker: set rabbitmq.existingSecret.name (a Secret with the URL in its key {{ .existingSecret.key }}), rabbitmq.clusterOperator.cluster, or rabbitmq.url"
{{- else if gt $forms 1 }}
- "more than one broker: set only one of rabbitmq.url, rabbitmq.existingSecret.name, rabbitmq.clusterOperator.cluster"
{{- end }}
{{- if and .url (not (regexMatch "^amqps?://" .url)) }}
- "rabbitmq.url does not begin with amqp:// or amqps://: write it like amqp://user:password@host:5672/%2f"
{{- end }}
{{- if and $ca (hasPrefix "amqp://" .url) }}
- "rabbitmq.ca is set, but rabbitmq.url begins with amqp://: write amqps:// (mostly port 5671), or leave the CA out"
{{- end }}
{{- if and .ca.existingSecret.name .ca.existingConfigMap.name }}
- "more than one CA of the broker: set only one of rabbitmq.ca.existingSecret.name, rabbitmq.ca.existingConfigMap.name"
{{- end }}
{{- if eq .queue .statusQueue }}
- "rabbitmq.queue and rabbitmq.statusQueue are the same: requests and reports need a queue each"
{{- end }}
{{- end }}
{{- end }}

{{- define "sync-operator.wrongApi" -}}
{{- with .Values.api.auth }}
{{- $byValue := or .username .password }}
{{- $forms := list $byValue .existingSecret.name .allowAnonymous | compact | len }}
{{- if $.Values.api.enabled }}
{{- if eq $forms 0 }}
- "nobody may use the API: set api.auth.existingSecret.name (a Secret with the keys {{ .existingSecret.usernameKey }} and {{ .existingSecret.passwordKey }}), api.auth.username and api.auth.password, or api.auth.allowAnonymous=true; or api.enabled=false"
{{- else if gt $forms 1 }}
- "more than one way to authenticate: set only one of api.auth.username with api.auth.password, api.auth.existingSecret.name, api.auth.allowAnonymous"
{{- end }}
{{- if and $byValue (not (and .username .password)) }}
- "api.auth.{{ ternary "password" "username" (empty .password) }} is missing: set api.auth.username and api.auth.password, both"
{{- end }}
{{- if contains ":" .username }}
- "api.auth.username has a colon in it, which HTTP Basic authentication cannot carry: choose another"
{{- end }}
{{- end }}
{{- end }}
{{- range $name := list "ingress" "httpRoute" }}
{{- if and (index $.Values $name).enabled (not $.Values.api.enabled) }}
- "{{ $name }}.enabled needs the API: set api.enabled=true"
{{- end }}
{{- end }}
{{- if and (not .Values.api.enabled) (ne .Values.service.type "ClusterIP") }}
- "service.type={{ .Values.service.type }} would publish nothing while api.enabled is false: set service.type=ClusterIP, or api.enabled=true"
{{- end }}
{{- if and .Values.httpRoute.enabled (not .Values.httpRoute.parentRefs) }}
- "httpRoute.enabled needs a Gateway: set httpRoute.parentRefs, like [{name: public, namespace: gateways}]"
{{- end }}
{{- if and .Values.ingress.enabled (not .Values.ingress.hosts) }}
- "ingress.enabled needs a host name: set ingress.hosts, like [sync.example]"
{{- end }}
{{- end }}

{{- define "sync-operator.wrongPlace" -}}
{{- $force := include "sync-operator.forceNamespace" . }}
{{- if and .Values.api.enabled .Values.watchNamespaces (not (has $force .Values.watchNamespaces)) }}
- "POST /sync/force would create objects in namespace {{ $force }}, which watchNamespaces leaves out: set api.force.namespace to one of {{ join ", " .Values.watchNamespaces }}, or add {{ $force }}"
{{- end }}
{{- if and (not .Values.serviceAccount.create) (not .Values.serviceAccount.name) }}
- "serviceAccount.create is false and serviceAccount.name is empty: name an account that exists, so that not all Pods of the namespace get these rights"
{{- end }}
{{- if lt (int .Values.terminationGracePeriodSeconds) 15 }}
- "terminationGracePeriodSeconds={{ int .Values.terminationGracePeriodSeconds }} cuts off what is under way: set 15 or more, 40 if requests may be long"
{{- end }}
{{- end }}

{{/* Kinds that other projects bring. */}}
{{- define "sync-operator.wrongKinds" -}}
{{- $monitoring := "Prometheus Operator" }}
{{- range list
      (list "metrics.serviceMonitor.enabled" .Values.metrics.serviceMonitor.enabled "monitoring.coreos.com/v1/ServiceMonitor" $monitoring)
      (list "metrics.podMonitor.enabled" .Values.metrics.podMonitor.enabled "monitoring.coreos.com/v1/PodMonitor" $monitoring)
      (list "metrics.prometheusRule.enabled" .Values.metrics.prometheusRule.enabled "monitoring.coreos.com/v1/PrometheusRule" $monitoring)
      (list "httpRoute.enabled" .Values.httpRoute.enabled "gateway.networking.k8s.io/v1/HTTPRoute" "Gateway API") }}
{{- if and (index . 1) (not ($.Capabilities.APIVersions.Has (index . 2))) }}
- "{{ index . 0 }}=true, but the cluster does not know {{ index . 2 }}: install the CRDs of {{ index . 3 }} first, or set it to false (helm template knows no cluster: add --api-versions {{ index . 2 }})"
{{- end }}
{{- end }}
{{- if and .Values.metrics.serviceMonitor.enabled .Values.metrics.podMonitor.enabled }}
- "metrics.serviceMonitor and metrics.podMonitor would scrape the same twice: enable only one of them"
{{- end }}
{{- if and .Values.metrics.serviceMonitor.enabled (ne .Values.service.type "ClusterIP") }}
- "metrics.serviceMonitor needs the port of the metrics, which a Service of type {{ .Values.service.type }} does not show to the outside: enable metrics.podMonitor instead"
{{- end }}
{{- end }}
