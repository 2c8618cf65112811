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
{{- $sources = append $sources (dict "id" "events" "socket" (dict "path" (printf "%s/events.sock" (trimSuffix "/" .Values.sidecar.socket.mountPath)) "mode" "0666")) -}}
{{- end -}}
{{- end -}}
{{- $defaults := dict
  "namespace" "${TRAILSEAL_POD_NAMESPACE}"
  "service" (ternary "node" .Release.Name (eq .Values.mode "daemonset"))
  "instance" (ternary "${TRAILSEAL_NODE}" "${TRAILSEAL_POD}" (eq .Values.mode "daemonset"))
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

{{/* The pod's grace, which must exceed the agent's: else it is killed while it ships the rest. */}}
{{- define "trailseal.terminationGracePeriodSeconds" -}}
{{- $grace := (include "trailseal.config" . | fromYaml).shutdown_grace | toString -}}
{{- $number := regexFind "^[0-9]+" $grace | int -}}
{{- $unit := regexFind "[a-z]+$" $grace -}}
{{- $seconds := mul $number (index (dict "s" 1 "m" 60 "h" 3600 "ms" 0) $unit | default 1) -}}
{{- if le (int .Values.terminationGracePeriodSeconds) (add $seconds 4 | int) -}}
{{- fail (printf "terminationGracePeriodSeconds is %d, and config.shutdown_grace %s: give the pod at least 5 s more than the agent" (int .Values.terminationGracePeriodSeconds) $grace) -}}
{{- end -}}
{{- .Values.terminationGracePeriodSeconds -}}
{{- end }}
