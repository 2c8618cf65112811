{{/* The agent's configuration: the defaults of the mode, and over them the values. */}}
{{- define "trailseal.config" -}}
{{- $sources := list -}}
{{- if eq .Values.mode "daemonset" -}}
{{- $sources = list (dict "id" "pods" "container" .Values.daemonset.logs) -}}
{{- else -}}
{{- if .Values.sidecar.logs.mountPath -}}
{{- $sources = append $sources (dict "id" "app" "file" (printf "%s/%s" (trimSuffix "/" .Values.sidecar.logs.mountPath) .Values.sidecar.logs.pattern)) -}}
{{- end -}}
{{- if .Values.sidecar.socket.enabled -}}
{{- /* Open to every user of the pod: service and agent have different ones, and nobody else mounts the volume. */ -}}
{{- $sources = append $sources (dict "id" "events" "socket" (dict "path" (printf "%s/events.sock" (trimSuffix "/" .Values.sidecar.socket.mountPath)) "mode" "0666")) -}}
{{- end -}}
{{- end -}}
{{- $defaults := dict
  "namespace" "${TRAILSEAL_POD_NAMESPACE}"
  "service" (ternary "node" .Release.Name (eq .Values.mode "daemonset"))
  "instance" (ternary "${TRAILSEAL_NODE}" "${TRAILSEAL_POD}" (eq .Values.mode "daemonset"))
  "where" (dict "node" "${TRAILSEAL_NODE}" "namespace" "${TRAILSEAL_POD_NAMESPACE}" "pod" "${TRAILSEAL_POD}")
  "state" "/var/lib/trailseal/state"
  "ephemeral" (eq (include "trailseal.persistenceType" .) "emptyDir")
  "sources" $sources
  "observability" "none"
  "shutdown_grace" "25s"
  "vitals" (dict "listen" "0.0.0.0:9600") -}}
{{- if .Values.catalog }}{{- $_ := set $defaults "catalog" "catalog.yaml" }}{{ end -}}
{{- toYaml (mergeOverwrite $defaults (deepCopy .Values.config)) -}}
{{- end }}

{{- define "trailseal.persistenceType" -}}
{{- default (ternary "hostPath" "emptyDir" (eq .Values.mode "daemonset")) .Values.persistence.type -}}
{{- end }}

{{/* Refuse what would be rendered well and go wrong in the cluster. */}}
{{- define "trailseal.checks" -}}
{{- $type := include "trailseal.persistenceType" . -}}
{{- if eq .Values.mode "daemonset" -}}
{{- if has $type (list "claim" "claimTemplate") -}}
{{- fail (printf "persistence.type is %q: each node's agent needs a spool of its own; take hostPath" $type) -}}
{{- end -}}
{{- if not (has (dig "rollingUpdate" "maxSurge" 0 .Values.updateStrategy | toString) (list "0" "0%")) -}}
{{- fail "updateStrategy.rollingUpdate.maxSurge would start a second agent on a node whose spool the first still owns; take maxUnavailable" -}}
{{- end -}}
{{- else -}}
{{- if eq $type "hostPath" -}}
{{- fail "persistence.type is \"hostPath\": two of your pods on one node would share a spool; take emptyDir, claim or claimTemplate" -}}
{{- end -}}
{{- if not (include "trailseal.config" . | fromYaml).sources -}}
{{- fail "the sidecar has nothing to read: set sidecar.logs.mountPath, sidecar.socket.enabled or config.sources" -}}
{{- end -}}
{{- end -}}
{{- end }}

{{/* The port of metrics and probes, out of vitals.listen. */}}
{{- define "trailseal.port" -}}
{{- $listen := (include "trailseal.config" . | fromYaml).vitals.listen -}}
{{- if not (regexMatch ":[1-9][0-9]*$" $listen) -}}
{{- fail (printf "config.vitals.listen is %q: probes and metrics need an address with a port, such as 0.0.0.0:9600" $listen) -}}
{{- end -}}
{{- if regexMatch "^(127\\.|localhost|\\[::1\\])" $listen -}}
{{- fail (printf "config.vitals.listen is %q: the kubelet's probes and Prometheus come from outside the pod; write 0.0.0.0:9600" $listen) -}}
{{- end -}}
{{- regexFind "[0-9]+$" $listen -}}
{{- end }}

{{/* The pod's grace: what the service may take of it, and then the agent's. Too short a one kills the agent while it ships the rest. */}}
{{- define "trailseal.terminationGracePeriodSeconds" -}}
{{- $grace := (include "trailseal.config" . | fromYaml).shutdown_grace | toString | nospace -}}
{{- $factor := index (dict "ms" 0.001 "s" 1.0 "m" 60.0 "h" 3600.0) (regexFind "[a-z]+$" $grace | default "s") -}}
{{- $own := mulf (regexFind "^[0-9.]+" $grace | float64) $factor | ceil | int -}}
{{- $service := ternary 0 .Values.sidecar.serviceStopSeconds (eq .Values.mode "daemonset") | int -}}
{{- $pod := .Values.terminationGracePeriodSeconds | int -}}
{{- if lt $pod (add $own $service 5 | int) -}}
{{- $parts := ternary "" (printf " and sidecar.serviceStopSeconds %d" $service) (eq .Values.mode "daemonset") -}}
{{- fail (printf "terminationGracePeriodSeconds is %d, with config.shutdown_grace %s%s: give the pod at least %d" $pod $grace $parts (add $own $service 5 | int)) -}}
{{- end -}}
{{- $pod -}}
{{- end }}
