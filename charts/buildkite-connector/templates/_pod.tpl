{{/* The pod of the Deployment. */}}
{{- define "buildkite-connector.pod" -}}
{{- $v := .Values -}}
metadata:
  labels:
    {{- $selector := include "buildkite-connector.selector" . | fromYaml }}
    {{- merge $selector $v.podLabels $v.commonLabels | toYaml | nindent 4 }}
  {{- with $v.podAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  serviceAccountName: {{ include "buildkite-connector.serviceAccountName" . | toYaml }}
  automountServiceAccountToken: {{ $v.serviceAccount.automount }}
  enableServiceLinks: false
  {{- with include "buildkite-connector.pullSecrets" . }}
  {{- . | nindent 2 }}
  {{- end }}
  # The operator hands its tasks back to C1 within 10 seconds.
  terminationGracePeriodSeconds: {{ $v.terminationGracePeriodSeconds }}
  {{- with $v.hostAliases }}
  hostAliases:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with include "buildkite-connector.podSecurityContext" . }}
  securityContext:
    {{- . | nindent 4 }}
  {{- end }}
  {{- if not $v.hostUsers }}
  hostUsers: false
  {{- end }}
  {{- with $v.priorityClassName }}
  priorityClassName: {{ . | toYaml }}
  {{- end }}
  {{- with $v.schedulerName }}
  schedulerName: {{ . | toYaml }}
  {{- end }}
  {{- with $v.runtimeClassName }}
  runtimeClassName: {{ . | toYaml }}
  {{- end }}
  {{- with $v.dnsPolicy }}
  dnsPolicy: {{ . }}
  {{- end }}
  {{- with $v.dnsConfig }}
  dnsConfig:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with include "buildkite-connector.nodes" . }}
  {{- . | nindent 2 }}
  {{- end }}
  {{- with $v.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $v.topologySpreadConstraints }}
  topologySpreadConstraints:
    {{- $own := dict "matchLabels" (include "buildkite-connector.selector" $ | fromYaml) }}
    {{- range tpl (toYaml .) $ | fromYamlArray }}
    {{- $selector := dict "labelSelector" (.labelSelector | default $own) }}
    - {{- merge $selector . (dict "maxSkew" 1 "whenUnsatisfiable" "ScheduleAnyway") | toYaml | nindent 6 }}
    {{- end }}
  {{- end }}
  {{- with $v.extraInitContainers }}
  initContainers:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  containers:
    - name: operator
      image: {{ include "buildkite-connector.image" . | toYaml }}
      imagePullPolicy: {{ $v.image.pullPolicy }}
      args: {{ concat (list "operator") $v.extraArgs | toJson }}
      env:
        {{- include "buildkite-connector.env" . | trim | nindent 8 }}
      {{- with $v.extraEnvFrom }}
      envFrom:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      ports:
        - name: http
          containerPort: {{ $v.http.port }}
          protocol: TCP
      {{- range $probe, $path := dict "startupProbe" "/healthz" "livenessProbe" "/healthz" "readinessProbe" "/readyz" }}
      {{- with get $v $probe }}
      {{- if .enabled }}
      {{ $probe }}:
        httpGet:
          path: {{ $path }}
          port: http
        periodSeconds: {{ .periodSeconds }}
        timeoutSeconds: {{ .timeoutSeconds }}
        failureThreshold: {{ .failureThreshold }}
      {{- end }}
      {{- end }}
      {{- end }}
      {{- with $v.securityContext }}
      securityContext:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $v.resources }}
      resources:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      volumeMounts:
        # The newest snapshot of each connector: a cache. What is lost with the pod is synced again.
        - name: data
          mountPath: /data
        - name: tmp
          mountPath: /tmp
        {{- if $v.caBundle.configMapName }}
        - name: ca-bundle
          mountPath: /etc/buildkite-connector/ca
          readOnly: true
        {{- end }}
        {{- if $v.c1.workloadIdentity.enabled }}
        - name: c1-token
          mountPath: /var/run/secrets/c1
          readOnly: true
        {{- end }}
        {{- with $v.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    {{- with $v.extraContainers }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  volumes:
    - name: data
      {{- with $v.data.existingClaim }}
      persistentVolumeClaim:
        claimName: {{ . | toYaml }}
      {{- else }}
      emptyDir:
        sizeLimit: {{ $v.data.sizeLimit }}
        {{- with $v.data.medium }}
        medium: {{ . }}
        {{- end }}
      {{- end }}
    - name: tmp
      emptyDir:
        sizeLimit: {{ $v.tmp.sizeLimit }}
    {{- with $v.caBundle }}
    {{- if .configMapName }}
    - name: ca-bundle
      configMap:
        name: {{ .configMapName | toYaml }}
        items:
          - key: {{ .key | toYaml }}
            path: {{ .key | toYaml }}
    {{- end }}
    {{- end }}
    {{- with $v.c1.workloadIdentity }}
    {{- if .enabled }}
    - name: c1-token
      projected:
        sources:
          - serviceAccountToken:
              path: token
              audience: {{ .audience | toYaml }}
              # C1 accepts no token that is more than 10 minutes old. This is also the least that Kubernetes allows.
              expirationSeconds: 600
    {{- end }}
    {{- end }}
    {{- with $v.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end }}

{{/* The pull secrets of a pod. */}}
{{- define "buildkite-connector.pullSecrets" -}}
{{- with concat .Values.global.imagePullSecrets .Values.imagePullSecrets -}}
imagePullSecrets:
  {{- range . }}
  - name: {{ kindIs "string" . | ternary . (get (kindIs "map" . | ternary . dict) "name") | toYaml }}
  {{- end }}
{{- end }}
{{- end }}

{{/* The nodes that a pod may run on: the chart's own values count before the global ones. */}}
{{- define "buildkite-connector.nodes" -}}
{{- with merge dict (.Values.nodeSelector | default dict) .Values.global.nodeSelector -}}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with concat .Values.tolerations .Values.global.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* OpenShift assigns users and groups to a namespace, and refuses others. */}}
{{- define "buildkite-connector.podSecurityContext" -}}
{{- $adapt := .Values.global.compatibility.openshift.adaptSecurityContext }}
{{- $openshift := .Capabilities.APIVersions.Has "security.openshift.io/v1" }}
{{- if or (eq $adapt "force") (and (eq $adapt "auto") $openshift) }}
{{- with omit (default dict .Values.podSecurityContext) "runAsUser" "runAsGroup" "fsGroup" }}{{ toYaml . }}{{ end }}
{{- else }}
{{- with .Values.podSecurityContext }}{{ toYaml . }}{{ end }}
{{- end }}
{{- end }}
