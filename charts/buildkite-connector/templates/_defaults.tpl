{{- /* Made by `make chart` from values.yaml. */}}
{{- define "buildkite-connector.defaults" -}}
global:
  imageRegistry: ''
  imagePullSecrets: []
  nodeSelector: {}
  tolerations: []
  compatibility:
    openshift:
      adaptSecurityContext: auto
image:
  registry: ''
  repository: buildkite-connector
  tag: ''
  digest: ''
  pullPolicy: IfNotPresent
imagePullSecrets: []
nameOverride: ''
fullnameOverride: ''
namespaceOverride: ''
commonLabels: {}
crds:
  enabled: true
  keep: true
  annotations: {}
replicaCount: 1
leaderElection:
  enabled: true
  leaseDuration: 15s
  renewDeadline: 10s
  retryPeriod: 2s
watchNamespaces: []
connectorSelector: ''
rbac:
  create: true
  aggregateToView: true
  aggregateToEdit: true
  aggregateToAdmin: true
serviceAccount:
  create: true
  name: ''
  annotations: {}
  labels: {}
  automount: true
data:
  sizeLimit: 1Gi
  medium: ''
  existingClaim: ''
tmp:
  sizeLimit: 256Mi
http:
  port: 8080
startupProbe:
  enabled: true
  periodSeconds: 2
  timeoutSeconds: 3
  failureThreshold: 30
livenessProbe:
  enabled: true
  periodSeconds: 10
  timeoutSeconds: 3
  failureThreshold: 3
readinessProbe:
  enabled: true
  periodSeconds: 5
  timeoutSeconds: 3
  failureThreshold: 3
log:
  level: info
  format: json
concurrency: 32
buildkite:
  apiUrl: ''
  tokenExchangeUrl: ''
  portalUrl: ''
c1:
  hosts: []
  workloadIdentity:
    enabled: false
    audience: ''
  create:
    enabled: false
proxy:
  httpsProxy: ''
  httpsProxySecretRef:
    name: ''
    key: url
  httpProxy: ''
  noProxy: []
caBundle:
  configMapName: ''
  key: ca.crt
otel:
  endpoint: ''
  protocol: http/protobuf
  headersSecretRef:
    name: ''
    key: headers
  metricsExporter: ''
  tracesExporter: ''
  sampler: ''
  samplerArg: ''
  resourceAttributes: {}
extraArgs: []
extraEnv: []
extraEnvFrom: []
extraVolumes: []
extraVolumeMounts: []
extraContainers: []
extraInitContainers: []
extraObjects: []
deploymentAnnotations: {}
podAnnotations: {}
podLabels: {}
tolerations: []
affinity: {}
topologySpreadConstraints: []
hostAliases: []
priorityClassName: ''
schedulerName: ''
runtimeClassName: ''
hostUsers: true
dnsPolicy: ''
dnsConfig: {}
terminationGracePeriodSeconds: 30
revisionHistoryLimit: 3
strategy: {}
podDisruptionBudget:
  enabled: false
  minAvailable: ''
  maxUnavailable: ''
  unhealthyPodEvictionPolicy: AlwaysAllow
networkPolicy:
  enabled: false
  ingress:
    from: []
  egress:
    dns:
      to: []
    apiServer:
      ports:
      - 443
      - 6443
      to: []
    https:
      to: []
    extra: []
metrics:
  service:
    enabled: false
    annotations: {}
    labels: {}
serviceMonitor:
  enabled: false
  namespace: ''
  renderMode: skipIfMissing
  additionalLabels: {}
  interval: 30s
  scrapeTimeout: ''
  honorLabels: true
  relabelings: []
  metricRelabelings: []
podMonitor:
  enabled: false
  namespace: ''
  renderMode: skipIfMissing
  additionalLabels: {}
  interval: 30s
  scrapeTimeout: ''
  honorLabels: true
  relabelings: []
  metricRelabelings: []
prometheusRule:
  enabled: false
  namespace: ''
  renderMode: skipIfMissing
  additionalLabels: {}
  runbookUrl: ''
  rules:
    BuildkiteConnectorNotReady:
      enabled: true
      for: 30m
      severity: warning
    BuildkiteConnectorStalled:
      enabled: true
      for: 15m
      severity: warning
    BuildkiteConnectorSyncFailing:
      enabled: true
      for: 5m
      severity: warning
      threshold: 2
    BuildkiteConnectorSyncOverdue:
      enabled: true
      for: 15m
      severity: warning
      threshold: 3600
    BuildkiteConnectorDeliveryStale:
      enabled: true
      for: 15m
      severity: warning
      threshold: 172800
    BuildkiteConnectorShrinkHeld:
      enabled: true
      for: 5m
      severity: warning
    BuildkiteConnectorShrunk:
      enabled: true
      for: 5m
      severity: warning
      threshold: 0.25
    BuildkiteConnectorProvisioningNotReady:
      enabled: true
      for: 15m
      severity: warning
    BuildkiteConnectorC1NotSynced:
      enabled: true
      for: 15m
      severity: warning
    BuildkiteConnectorQuotaShort:
      enabled: true
      for: 30m
      severity: info
      threshold: 0.5
    BuildkiteConnectorTokenExpiring:
      enabled: true
      for: 5m
      severity: warning
      threshold: 1209600
    BuildkiteConnectorOperatorDown:
      enabled: true
      for: 10m
      severity: critical
    BuildkiteConnectorNoLeader:
      enabled: true
      for: 5m
      severity: critical
    BuildkiteConnectorMultipleLeaders:
      enabled: true
      for: 2m
      severity: critical
grafanaDashboard:
  enabled: false
  namespace: ''
  sidecarLabel: grafana_dashboard
  sidecarLabelValue: '1'
  annotations: {}
  extraLabels: {}
{{- end }}

{{/* Gives each value that is missing its default, as `helm upgrade --reuse-values` leaves out what is new.
Each template that reads a value begins with this. */}}
{{- define "buildkite-connector.values" -}}
{{- $_ := set . "Values" (mergeOverwrite (include "buildkite-connector.defaults" . | fromYaml) .Values) }}
{{- end }}
