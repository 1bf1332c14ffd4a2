{{/* The stanza of multivalue. */}}
{{- define "multivalue.stanza" -}}
{{- $v := .Values -}}
multivalue {{ join " " $v.stanza.zones }} {
{{- range $v.stanza.checks }}
    check {{ . }}
{{- end }}
    within {{ join " " $v.stanza.within }}
{{- with trim $v.stanza.lines }}
{{ . | indent 4 }}
{{- end }}
{{- if $v.topology.enabled }}
    select {{ $v.topology.select }}
    topology kubernetes
{{- end }}
{{- if $v.annotations.enabled }}
    annotations
{{- end }}
{{- if $v.status.enabled }}
    status
{{- end }}
{{- if $v.state.enabled }}
    state /var/lib/coredns/multivalue.state
{{- end }}
{{- if $v.fleet.enabled }}
    fleet {{ include "multivalue.name" . }}-fleet.{{ .Release.Namespace }}.svc.{{ $v.clusterDomain }} {
        key /etc/coredns-fleet/fleet.key
        advertise {$POD_IP}
{{- with trim $v.fleet.lines }}
{{ . | indent 8 }}
{{- end }}
    }
{{- end }}
{{- if $v.stanza.dryRun }}
    dry_run
{{- end }}
}
{{- end }}

{{/* The Corefile of the modes beside and cluster-dns. */}}
{{- define "multivalue.corefile" -}}
{{- if .Values.corefile -}}
{{ trim .Values.corefile }}
{{- else -}}
.:53 {
    errors
    health {
        lameduck 5s
    }
    ready
    prometheus :9153
{{- $stanza := include "multivalue.stanza" . }}
{{ $stanza | indent 4 }}
    kubernetes {{ .Values.clusterDomain }} in-addr.arpa ip6.arpa {
        pods insecure
        fallthrough in-addr.arpa ip6.arpa
        ttl 30
    }
    forward . {{ join " " .Values.upstream }}
    cache 30
    loop
    reload
{{- /* It would undo the order that these properties draw. */}}
{{- if not (regexMatch `(?m)^[ \t]*(weight|warmup|select[ \t]+(nearest|client)|check[ \t]+agent:)|\bweight_header\b` $stanza) }}
    loadbalance
{{- end }}
}
{{- end }}
{{- end }}
