{{/* The agent's container without its name, for both modes. */}}
{{- define "trailseal.container" -}}
{{- include "trailseal.checks" . -}}
image: {{ include "trailseal.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
args: ["run", "--config", "/etc/trailseal/config/trailseal.yaml"]
env:
  - name: TRAILSEAL_NODE
    valueFrom: {fieldRef: {fieldPath: spec.nodeName}}
  - name: TRAILSEAL_POD
    valueFrom: {fieldRef: {fieldPath: metadata.name}}
  - name: TRAILSEAL_POD_NAMESPACE
    valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
  {{- with .Values.env }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with include "trailseal.envFrom" (dict "root" . "secret" .Values.credentials.existingSecret) }}
envFrom: {{- trim . | nindent 2 }}
{{- end }}
ports:
  - {name: trailseal, containerPort: {{ include "trailseal.port" . }}, protocol: TCP}
{{- $probes := .Values.probes }}
{{- if $probes.startup.enabled }}
startupProbe:
  httpGet: {path: /livez, port: trailseal}
  {{- omit $probes.startup "enabled" | toYaml | nindent 2 }}
{{- end }}
{{- if $probes.liveness.enabled }}
livenessProbe:
  httpGet: {path: /livez, port: trailseal}
  {{- omit $probes.liveness "enabled" | toYaml | nindent 2 }}
{{- end }}
{{- if (kindIs "invalid" $probes.readiness.enabled) | ternary (eq .Values.mode "daemonset") $probes.readiness.enabled }}
readinessProbe:
  httpGet: {path: /readyz, port: trailseal}
  {{- omit $probes.readiness "enabled" | toYaml | nindent 2 }}
{{- end }}
{{- $context := dict "allowPrivilegeEscalation" false "readOnlyRootFilesystem" true "capabilities" (dict "drop" (list "ALL")) "seccompProfile" (dict "type" "RuntimeDefault") }}
{{- if eq .Values.mode "daemonset" }}
{{- /* The kubelet gives container logs to root alone. As their owner it reads them without any capability. */}}
{{- $context = merge $context (dict "runAsUser" 0 "runAsGroup" 0) }}
{{- else }}
{{- $context = merge $context (dict "runAsNonRoot" true "runAsUser" 65532 "runAsGroup" 65532) }}
{{- end }}
securityContext:
  {{- mergeOverwrite $context (deepCopy .Values.securityContext) | toYaml | nindent 2 }}
resources:
  {{- toYaml .Values.resources | nindent 2 }}
volumeMounts:
  - {name: trailseal-config, mountPath: /etc/trailseal/config, readOnly: true}
  - {name: trailseal-state, mountPath: /var/lib/trailseal}
  {{- if and .Values.credentials.existingSecret .Values.credentials.asFiles }}
  - {name: trailseal-credentials, mountPath: {{ .Values.credentials.mountPath | quote }}, readOnly: true}
  {{- end }}
  {{- if eq .Values.mode "daemonset" }}
  {{- range $index, $path := .Values.daemonset.hostPaths }}
  - {name: host-logs-{{ $index }}, mountPath: {{ $path | quote }}, readOnly: true}
  {{- end }}
  {{- else }}
  {{- if .Values.sidecar.logs.mountPath }}
  - {name: trailseal-logs, mountPath: {{ .Values.sidecar.logs.mountPath | quote }}, readOnly: true}
  {{- end }}
  {{- if .Values.sidecar.socket.enabled }}
  - {name: trailseal-socket, mountPath: {{ .Values.sidecar.socket.mountPath | quote }}}
  {{- end }}
  {{- end }}
  {{- with .Values.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}

{{/* The volumes that the container above mounts. */}}
{{- define "trailseal.volumes" -}}
- name: trailseal-config
  configMap: {name: {{ include "trailseal.configMapName" . | quote }}}
{{- $type := include "trailseal.persistenceType" . }}
{{- /* A StatefulSet gives each pod a volume by the name of its claim template. */}}
{{- if ne $type "claimTemplate" }}
- name: trailseal-state
  {{- if eq $type "hostPath" }}
  hostPath: {path: {{ .Values.persistence.hostPath | quote }}, type: DirectoryOrCreate}
  {{- else if eq $type "claim" }}
  persistentVolumeClaim: {claimName: {{ required "persistence.claimName is missing: name the claim that holds the spool" .Values.persistence.claimName | quote }}}
  {{- else }}
  emptyDir: {{ if .Values.persistence.sizeLimit }}{sizeLimit: {{ .Values.persistence.sizeLimit | quote }}}{{ else }}{}{{ end }}
  {{- end }}
{{- end }}
{{- if and .Values.credentials.existingSecret .Values.credentials.asFiles }}
- name: trailseal-credentials
  {{- /* A sidecar is not their owner, and has their group only where the pod has an fsGroup. No other container mounts them. */}}
  secret: {secretName: {{ .Values.credentials.existingSecret | quote }}, defaultMode: {{ ternary "0440" "0444" (eq .Values.mode "daemonset") }}}
{{- end }}
{{- if eq .Values.mode "daemonset" }}
{{- range $index, $path := .Values.daemonset.hostPaths }}
- name: host-logs-{{ $index }}
  hostPath: {path: {{ $path | quote }}, type: Directory}
{{- end }}
{{- else }}
{{- if .Values.sidecar.logs.mountPath }}
- name: trailseal-logs
  emptyDir: {{ if .Values.sidecar.logs.sizeLimit }}{sizeLimit: {{ .Values.sidecar.logs.sizeLimit | quote }}}{{ else }}{}{{ end }}
{{- end }}
{{- if .Values.sidecar.socket.enabled }}
- name: trailseal-socket
  emptyDir: {medium: Memory, sizeLimit: 1Mi}
{{- end }}
{{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* A native sidecar, for `initContainers` of your pod: it starts before your containers and ends after them. */}}
{{- define "trailseal.sidecar" -}}
{{- if ne .Values.mode "sidecar" -}}
{{- fail (printf "mode is %q, and a pod includes \"trailseal.sidecar\": set mode to sidecar" .Values.mode) -}}
{{- end -}}
- name: {{ .Values.sidecar.name }}
  restartPolicy: Always
  {{- include "trailseal.container" . | nindent 2 }}
{{- end }}

{{/* What your own container mounts to write its log, or to reach the socket. */}}
{{- define "trailseal.serviceVolumeMounts" -}}
{{- if .Values.sidecar.logs.mountPath }}
- {name: trailseal-logs, mountPath: {{ .Values.sidecar.logs.mountPath | quote }}}
{{- end }}
{{- if .Values.sidecar.socket.enabled }}
- {name: trailseal-socket, mountPath: {{ .Values.sidecar.socket.mountPath | quote }}, readOnly: true}
{{- end }}
{{- end }}

{{/* Of your StatefulSet, with persistence.type claimTemplate: a spool that outlives the pod, and finds it again by its name. */}}
{{- define "trailseal.volumeClaimTemplates" -}}
- apiVersion: v1
  kind: PersistentVolumeClaim
  metadata: {name: trailseal-state}
  spec:
    accessModes: {{- toYaml .Values.persistence.accessModes | nindent 6 }}
    {{- with .Values.persistence.storageClassName }}
    storageClassName: {{ . | quote }}
    {{- end }}
    resources: {requests: {storage: {{ .Values.persistence.size | quote }}}}
{{- end }}

{{/* Of the keys that only a start can change (docs/configuration.md): all others take effect in the running agent. */}}
{{- define "trailseal.podAnnotations" -}}
{{- $config := include "trailseal.config" . | fromYaml -}}
trailseal/start-settings: {{ pick $config "namespace" "service" "instance" "state" "ephemeral" "vitals" | toJson | sha256sum | trunc 32 | quote }}
{{- end }}
