{{/*
The name of most objects: that of the release, which says multivalue. A Service has no dots in its name, and begins with a
letter (RFC 1035), and the name of a release may be 1.2.
*/}}
{{- define "multivalue.name" -}}
{{- $name := .Release.Name | replace "." "-" }}
{{- if not (contains "multivalue" $name) }}{{ $name = printf "%s-multivalue" $name }}{{ end }}
{{- if regexMatch "^[0-9]" $name }}{{ $name = printf "multivalue-%s" $name }}{{ end }}
{{- $name | trunc 50 | trimSuffix "-" }}
{{- end }}

{{/* The name of an object without a namespace, which two releases of the same name must not share. */}}
{{- define "multivalue.clusterName" -}}
{{ include "multivalue.name" . }}-{{ .Release.Namespace }}
{{- end }}

{{- define "multivalue.selector" -}}
app.kubernetes.io/name: multivalue
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{- define "multivalue.labels" -}}
{{ include "multivalue.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: coredns
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version | replace "+" "_" }}
{{- end }}

{{/* What the Pods of the fleet have in common, and no other. */}}
{{- define "multivalue.podSelector" -}}
{{- if eq .Values.mode "existing" }}{{ (include "multivalue.existing" . | fromYaml).selector | toYaml }}{{ else }}{{ include "multivalue.selector" . }}{{ end }}
{{- end }}

{{- define "multivalue.account" -}}
{{- if eq .Values.mode "existing" }}{{ .Values.existing.serviceAccount }}{{ else }}{{ include "multivalue.name" . }}{{ end }}
{{- end }}

{{- define "multivalue.image" -}}
{{- $i := .Values.image -}}
{{ required "image.repository is empty: name the registry and the repository of your image, such as registry.example.org/coredns-multivalue" $i.repository }}
{{- if $i.digest }}@{{ $i.digest }}{{ else }}:{{ $i.tag | default .Chart.AppVersion }}{{ end }}
{{- end }}

{{/* With the mode existing, Helm never deletes what the DNS of the cluster needs. */}}
{{- define "multivalue.keep" -}}
{{- if eq .Values.mode "existing" }}
  annotations:
    helm.sh/resource-policy: keep
{{- end }}
{{- end }}

{{- define "multivalue.fleetSecret" -}}
{{ .Values.fleet.secret | default (printf "%s-fleet" (include "multivalue.name" .)) }}
{{- end }}
