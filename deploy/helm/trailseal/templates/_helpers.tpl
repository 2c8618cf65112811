{{/* Names, labels, the image. Every template takes a chart's context: `.` here, `.Subcharts.trailseal` in a chart that depends on this one. */}}
{{- define "trailseal.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* At most 48 characters, so that "-watch-metrics" still fits into the 63 of a Service's name. */}}
{{- define "trailseal.fullname" -}}
{{- if .Values.fullnameOverride }}{{ .Values.fullnameOverride | trunc 48 | trimSuffix "-" }}
{{- else if contains (include "trailseal.name" .) .Release.Name }}{{ .Release.Name | trunc 48 | trimSuffix "-" }}
{{- else }}{{ printf "%s-%s" .Release.Name (include "trailseal.name" .) | trunc 48 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "trailseal.watchName" -}}
{{ include "trailseal.fullname" . }}-watch
{{- end }}

{{- define "trailseal.selectorLabels" -}}
app.kubernetes.io/name: {{ include "trailseal.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "trailseal.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "trailseal.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{/* What the monitors find an agent's pod by. A pod of yours has names of its own, so it is not one of the labels above. */}}
{{- define "trailseal.podLabels" -}}
trailseal/metrics: {{ include "trailseal.fullname" . }}
{{- end }}

{{- define "trailseal.image" -}}
{{- $image := .Values.image -}}
{{- $name := printf "%s/%s" $image.registry $image.repository | trimPrefix "/" -}}
{{- if $image.digest }}{{ printf "%s@%s" $name $image.digest }}{{ else }}{{ printf "%s:%s" $name (default .Chart.AppVersion $image.tag) }}{{ end }}
{{- end }}

{{- define "trailseal.serviceAccountName" -}}
{{- if .Values.serviceAccount.name }}{{ .Values.serviceAccount.name }}
{{- else if .Values.serviceAccount.create }}{{ include "trailseal.fullname" . }}
{{- else }}default{{ end }}
{{- end }}

{{- define "trailseal.watchAccountName" -}}
{{- $account := .Values.watch.serviceAccount -}}
{{- if $account.name }}{{ $account.name }}
{{- else if $account.create }}{{ include "trailseal.watchName" . }}
{{- else }}default{{ end }}
{{- end }}

{{- define "trailseal.configMapName" -}}
{{- default (printf "%s-config" (include "trailseal.fullname" .)) .Values.existingConfigMap }}
{{- end }}

{{/* The environment of a container, from a Secret (named by "secret") and from the values. */}}
{{- define "trailseal.envFrom" -}}
{{- if and .secret .root.Values.credentials.asEnv }}
- secretRef: {name: {{ .secret | quote }}}
{{- end }}
{{- with .root.Values.envFrom }}
{{ toYaml . }}
{{- end }}
{{- end }}
