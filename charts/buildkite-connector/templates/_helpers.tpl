{{/* The chart's name, part of the selector. */}}
{{- define "buildkite-connector.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* The name of what is made; carries the release. 52 characters leave room for suffixes. */}}
{{- define "buildkite-connector.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride }}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" }}
{{- else if contains $name .Release.Name }}
{{- .Release.Name | trunc 52 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 52 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "buildkite-connector.namespace" -}}
{{- default .Release.Namespace .Values.namespaceOverride }}
{{- end }}

{{/* The name of cluster-wide roles: two releases of one name in two namespaces must not share them. */}}
{{- define "buildkite-connector.clusterName" -}}
{{- $name := include "buildkite-connector.fullname" . }}
{{- $namespace := include "buildkite-connector.namespace" . }}
{{- eq $name $namespace | ternary $name (printf "%s-%s" $namespace $name) }}
{{- end }}

{{- define "buildkite-connector.serviceAccountName" -}}
{{- $own := .Values.serviceAccount.create | ternary (include "buildkite-connector.fullname" .) "default" }}
{{- default $own .Values.serviceAccount.name }}
{{- end }}

{{/* Immutable in a Deployment: never to change, whatever version or value does. */}}
{{- define "buildkite-connector.selector" -}}
app.kubernetes.io/name: {{ include "buildkite-connector.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{- define "buildkite-connector.labels" -}}
{{- include "buildkite-connector.labelsWith" (dict "root" . "more" dict) }}
{{- end }}

{{/* The labels of the Pod of `helm test`. No selector of the operator's pods selects it. */}}
{{- define "buildkite-connector.testSelector" -}}
app.kubernetes.io/name: {{ printf "%s-test" (include "buildkite-connector.name" . | trunc 58) | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{/* All labels of an object, the values' own included; takes root and the object's `more`. The chart's go first. */}}
{{- define "buildkite-connector.labelsWith" -}}
{{- $own := include "buildkite-connector.selector" .root | fromYaml }}
{{- $_ := set $own "app.kubernetes.io/version" .root.Chart.AppVersion }}
{{- $_ := set $own "app.kubernetes.io/managed-by" .root.Release.Service }}
{{- $_ := set $own "helm.sh/chart" (printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_") }}
{{- merge $own .more .root.Values.commonLabels | toYaml }}
{{- end }}

{{/* A repository that begins with a registry, as Docker tells one from a folder, gets no other. */}}
{{- define "buildkite-connector.image" -}}
{{- $whole := regexMatch "^([^/]*[.:][^/]*|localhost)/" .Values.image.repository }}
{{- $registry := $whole | ternary "" (.Values.global.imageRegistry | default .Values.image.registry) }}
{{- if not (or $registry (contains "/" .Values.image.repository)) }}
{{- fail "image.registry is not set: set it to the registry that you pushed the image to, for example --set image.registry=registry.example.com (docs/install.md)." }}
{{- end }}
{{- with $registry }}{{ . }}/{{ end }}
{{- .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- with .Values.image.digest }}@{{ . }}{{ end }}
{{- end }}

{{/* Whether an object of the Prometheus operator is rendered; takes root, kind and the values with renderMode. */}}
{{- define "buildkite-connector.monitored" -}}
{{- $there := .root.Capabilities.APIVersions.Has (printf "monitoring.coreos.com/v1/%s" .kind) }}
{{- if .values.enabled }}
{{- if or $there (eq .values.renderMode "alwaysRender") }}yes
{{- else if eq .values.renderMode "failIfMissing" }}
{{- fail (printf "The cluster does not have the kind %s (monitoring.coreos.com/v1): install the Prometheus operator's CRDs, or set renderMode to skipIfMissing." .kind) }}
{{- end }}
{{- end }}
{{- end }}

{{/* Where a monitor finds the pods or the Service, if it is in another namespace; takes root and the values. */}}
{{- define "buildkite-connector.scrapedNamespace" -}}
{{- $namespace := include "buildkite-connector.namespace" .root }}
{{- if not (has .values.namespace (list "" $namespace)) -}}
namespaceSelector:
  matchNames: [{{ $namespace | toYaml }}]
{{- end }}
{{- end }}

{{/* What ServiceMonitor and PodMonitor have in common: the endpoint; takes the values. */}}
{{- define "buildkite-connector.endpoint" -}}
port: http
path: /metrics
{{- with .interval }}
interval: {{ . }}
{{- end }}
{{- with .scrapeTimeout }}
scrapeTimeout: {{ . }}
{{- end }}
honorLabels: {{ .honorLabels }}
{{- with .relabelings }}
relabelings:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .metricRelabelings }}
metricRelabelings:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* Values that cannot work together, each with what to do. */}}
{{- define "buildkite-connector.check" -}}
{{- $v := .Values }}
{{- if and (gt (int $v.replicaCount) 1) (not $v.leaderElection.enabled) }}
{{- fail "replicaCount above 1 needs leaderElection.enabled: without it every pod would sync every connector." }}
{{- end }}
{{- if gt (int (default 1 $v.shards)) 1 }}
{{- fail "shards is no longer supported: divide the connectors among releases by connectorSelector or watchNamespaces, and unset it." }}
{{- end }}
{{- if and $v.data.existingClaim (gt (int $v.replicaCount) 1) }}
{{- fail "data.existingClaim serves one pod only: leave it empty with replicaCount above 1." }}
{{- end }}
{{- if and $v.c1.workloadIdentity.enabled (not $v.c1.workloadIdentity.audience) }}
{{- fail "c1.workloadIdentity.audience is not set: set it to your tenant's domain in C1, for example acme.conductor.one." }}
{{- end }}
{{- if and $v.proxy.httpsProxy $v.proxy.httpsProxySecretRef.name }}
{{- fail "proxy.httpsProxy and proxy.httpsProxySecretRef.name are both set: set one of them." }}
{{- end }}
{{- range $name, $url := pick $v.proxy "httpsProxy" "httpProxy" }}
{{- /* The message does not repeat the URL: it may contain a password. */}}
{{- if contains "@" $url }}
{{- fail (printf "proxy.%s has a user name or a password: set it from a Secret, by proxy.httpsProxySecretRef or, for HTTP_PROXY, by extraEnv." $name) }}
{{- end }}
{{- if and $url (not (regexMatch "^http://(\\[[0-9a-fA-F:.]+\\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?/?$" $url)) }}
{{- fail (printf "proxy.%s must look like http://proxy.example.com:3128. Proxies with https:// or socks5:// are not supported." $name) }}
{{- end }}
{{- end }}
{{- $extra := list }}
{{- range $v.extraEnv }}
{{- $extra = append $extra .name }}
{{- end }}
{{- range include "buildkite-connector.proxyEnv" . | fromYamlArray }}
{{- if has .name $extra }}
{{- fail (printf "proxy and extraEnv both set %s: set it in one of them." .name) }}
{{- end }}
{{- end }}
{{- if and $v.serviceMonitor.enabled $v.podMonitor.enabled }}
{{- fail "serviceMonitor.enabled and podMonitor.enabled would scrape every pod twice: enable one of them." }}
{{- end }}
{{- if and (ne (toString $v.podDisruptionBudget.minAvailable) "") (ne (toString $v.podDisruptionBudget.maxUnavailable) "") }}
{{- fail "podDisruptionBudget takes minAvailable or maxUnavailable, not both." }}
{{- end }}
{{- end }}
