{{/* The container's environment: the operator's settings and OpenTelemetry's. */}}
{{- define "buildkite-connector.env" -}}
{{- $v := .Values -}}
{{- range $name, $path := dict "POD_NAME" "metadata.name" "POD_NAMESPACE" "metadata.namespace" "POD_UID" "metadata.uid" "NODE_NAME" "spec.nodeName" }}
- name: {{ $name }}
  valueFrom:
    fieldRef:
      fieldPath: {{ $path }}
{{- end }}
{{- with $v.watchNamespaces }}
- name: WATCH_NAMESPACE
  {{- if eq (join "," .) (include "buildkite-connector.namespace" $) }}
  valueFrom:
    fieldRef:
      fieldPath: metadata.namespace
  {{- else }}
  value: {{ join "," . | quote }}
  {{- end }}
{{- end }}
{{- with $v.connectorSelector }}
- name: BUILDKITE_CONNECTOR_SELECTOR
  value: {{ . | quote }}
{{- end }}
- name: BUILDKITE_CONNECTOR_HTTP_ADDRESS
  value: ":{{ $v.http.port }}"
- name: BUILDKITE_CONNECTOR_DATA_DIR
  value: /data
- name: BUILDKITE_CONNECTOR_CONCURRENCY
  value: {{ $v.concurrency | quote }}
- name: BUILDKITE_CONNECTOR_LEADER_ELECTION
  value: {{ $v.leaderElection.enabled | quote }}
{{- if $v.leaderElection.enabled }}
- name: BUILDKITE_CONNECTOR_LEASE_NAME
  value: {{ include "buildkite-connector.fullname" . | toYaml }}
- name: BUILDKITE_CONNECTOR_LEASE_NAMESPACE
  value: $(POD_NAMESPACE)
- name: BUILDKITE_CONNECTOR_LEASE_DURATION
  value: {{ $v.leaderElection.leaseDuration }}
- name: BUILDKITE_CONNECTOR_RENEW_DEADLINE
  value: {{ $v.leaderElection.renewDeadline }}
- name: BUILDKITE_CONNECTOR_RETRY_PERIOD
  value: {{ $v.leaderElection.retryPeriod }}
{{- end }}
{{- with $v.buildkite.apiUrl }}
- name: BUILDKITE_API_URL
  value: {{ . | quote }}
{{- end }}
{{- with $v.buildkite.tokenExchangeUrl }}
- name: BUILDKITE_TOKEN_EXCHANGE_URL
  value: {{ . | quote }}
{{- end }}
{{- with $v.buildkite.portalUrl }}
- name: BUILDKITE_PORTAL_URL
  value: {{ . | quote }}
{{- end }}
{{- with $v.c1.hosts }}
- name: BUILDKITE_CONNECTOR_C1_HOSTS
  value: {{ join "," . | quote }}
{{- end }}
{{- if $v.c1.workloadIdentity.enabled }}
- name: BUILDKITE_CONNECTOR_C1_TOKEN_FILE
  value: /var/run/secrets/c1/token
{{- end }}
{{- include "buildkite-connector.proxyEnv" . }}
{{- if $v.caBundle.configMapName }}
- name: SSL_CERT_FILE
  value: /etc/buildkite-connector/ca/{{ $v.caBundle.key }}
{{- end }}
- name: BATON_LOG_LEVEL
  value: {{ $v.log.level }}
- name: BATON_LOG_FORMAT
  value: {{ $v.log.format }}
- name: OTEL_SERVICE_NAME
  value: {{ include "buildkite-connector.name" . | toYaml }}
- name: OTEL_RESOURCE_ATTRIBUTES
  value: {{ include "buildkite-connector.resourceAttributes" . | quote }}
{{- with $v.otel }}
{{- if .endpoint }}
- name: OTEL_EXPORTER_OTLP_ENDPOINT
  value: {{ .endpoint | quote }}
- name: OTEL_EXPORTER_OTLP_PROTOCOL
  value: {{ .protocol }}
{{- if .headersSecretRef.name }}
- name: OTEL_EXPORTER_OTLP_HEADERS
  valueFrom:
    secretKeyRef:
      name: {{ .headersSecretRef.name | toYaml }}
      key: {{ .headersSecretRef.key | toYaml }}
{{- end }}
{{- end }}
{{- range $name, $value := dict "OTEL_METRICS_EXPORTER" .metricsExporter "OTEL_TRACES_EXPORTER" .tracesExporter "OTEL_TRACES_SAMPLER" .sampler "OTEL_TRACES_SAMPLER_ARG" .samplerArg }}
{{- with $value }}
- name: {{ $name }}
  value: {{ . | quote }}
{{- end }}
{{- end }}
{{- end }}
{{- with $v.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* The variables of `proxy`. */}}
{{- define "buildkite-connector.proxyEnv" -}}
{{- with .Values.proxy }}
{{- if .httpsProxySecretRef.name }}
- name: HTTPS_PROXY
  valueFrom:
    secretKeyRef:
      name: {{ .httpsProxySecretRef.name | toYaml }}
      key: {{ .httpsProxySecretRef.key | toYaml }}
{{- else if .httpsProxy }}
- name: HTTPS_PROXY
  value: {{ .httpsProxy | quote }}
{{- end }}
{{- if .httpProxy }}
- name: HTTP_PROXY
  value: {{ .httpProxy | quote }}
{{- end }}
{{- if or .httpsProxySecretRef.name .httpsProxy .httpProxy .noProxy }}
# The kubelet puts the address of the Kubernetes API in place of the variable.
- name: NO_PROXY
  value: {{ concat (list "$(KUBERNETES_SERVICE_HOST)" ".svc" ".cluster.local") .noProxy | join "," | quote }}
{{- end }}
{{- end }}
{{- end }}

{{/* Where the operator runs, by the downward API, and what the values add. */}}
{{- define "buildkite-connector.resourceAttributes" -}}
service.instance.id=$(POD_UID),k8s.namespace.name=$(POD_NAMESPACE),k8s.pod.name=$(POD_NAME),k8s.pod.uid=$(POD_UID),k8s.node.name=$(NODE_NAME),k8s.container.name=operator,k8s.deployment.name={{ include "buildkite-connector.fullname" . }}
{{- range $key, $value := .Values.otel.resourceAttributes }},{{ $key }}={{ $value }}{{ end }}
{{- end }}
