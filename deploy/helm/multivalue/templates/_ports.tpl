{{/* The ports to probe, for the NetworkPolicy: those that are given, or those in the checks, which end at a path, a query or a space. */}}
{{- define "multivalue.backendPorts" -}}
{{- $ports := .Values.networkPolicy.backendPorts }}
{{- $usual := dict "http" "80" "https" "443" "dns" "53" "dot" "853" "redis" "6379" "rediss" "6379" "postgres" "5432" "mysql" "3306" }}
{{- if not $ports }}
{{- range .Values.stanza.checks }}
{{- $port := regexFind `:[0-9]+$` (regexFind `^[a-z]+://[^/?#\s]*` (trim .)) | trimPrefix ":" }}
{{- if not $port }}{{ $port = get $usual (regexFind `^[a-z]+` (trim .)) }}{{ end }}
{{- if not $port }}{{ fail (printf "the check %q names no port: add the ports that CoreDNS probes to networkPolicy.backendPorts" .) }}{{ end }}
{{- $ports = append $ports (int $port) }}
{{- end }}
{{- end }}
{{- if not $ports }}{{ fail "networkPolicy.backendPorts is empty, and so is stanza.checks: name the ports that CoreDNS probes, or set networkPolicy.enabled=false" }}{{ end }}
{{- uniq $ports | toYaml }}
{{- end }}

{{/*
The ports of the servers in upstream: the one that is named, or that of the protocol. A file such as /etc/resolv.conf names
servers on port 53, as an own Corefile is taken to do. A name for TLS may follow after a percent sign.
*/}}
{{- define "multivalue.upstreamPorts" -}}
{{- $usual := dict "dns" "53" "tls" "853" "quic" "853" "https" "443" }}
{{- $all := list }}
{{- range ternary (list "/etc/resolv.conf") .Values.upstream (not (empty .Values.corefile)) }}
{{- $scheme := regexFind `^[a-z]+://` . | trimSuffix "://" | default "dns" }}
{{- $server := regexReplaceAll `^[a-z]+://|%.*$` . "" }}
{{- if eq $scheme "https" }}{{ $server = regexReplaceAll `/.*$` $server "" }}{{ end }}
{{- $port := get $usual $scheme | default "53" }}
{{- if regexMatch `^([^:/]*|\[.*\]):[0-9]+$` $server }}{{ $port = regexFind `[0-9]+$` $server }}{{ end }}
{{- range ternary (list "UDP" "TCP") (list (ternary "UDP" "TCP" (eq $scheme "quic"))) (eq $scheme "dns") }}
{{- $all = append $all (printf "- {port: %s, protocol: %s}" $port .) }}
{{- end }}
{{- end }}
{{- uniq $all | join "\n" }}
{{- end }}
