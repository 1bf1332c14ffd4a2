{{/* What the schema cannot say. */}}
{{- define "multivalue.refuse" -}}
{{- $v := .Values }}
{{- if $v.corefile }}
{{- if ne $v.mode "existing" }}{{ include "multivalue.probed" . }}{{ end }}
{{- else }}
{{- if not $v.stanza.zones }}{{ fail "stanza.zones is empty: name the zones whose answers are judged, such as shop.svc.cluster.local" }}{{ end }}
{{- if not $v.stanza.checks }}{{ fail "stanza.checks is empty: say how to check an address, such as http://:8080/healthz" }}{{ end }}
{{- if not $v.stanza.within }}{{ fail "stanza.within is empty: name the networks of your Pods, such as 10.244.0.0/16" }}{{ end }}
{{- end }}
{{- range $v.stanza.within }}{{ include "multivalue.masked" . }}{{ end }}
{{- if and $v.networkPolicy.enabled (ne $v.mode "existing") (not $v.stanza.within) }}{{ fail "stanza.within is empty: name the networks that the NetworkPolicy lets CoreDNS probe, or set networkPolicy.enabled=false" }}{{ end }}
{{- if and .Release.IsUpgrade (ne $v.mode "existing") (include "multivalue.saved" . | fromYaml) (not (include "multivalue.owned" .)) }}{{ fail "this release has the mode existing: uninstall it first, which changes nothing, and then install the chart with another mode" }}{{ end }}
{{- if and (eq $v.mode "cluster-dns") (not $v.service.clusterIP) }}{{ fail "service.clusterIP is empty: cluster-dns needs the address that kubelets give to Pods (clusterDNS), such as 10.96.0.10" }}{{ end }}
{{- if and (eq $v.mode "cluster-dns") (ne $v.service.type "ClusterIP") }}{{ fail "service.type must be ClusterIP with cluster-dns: Pods reach it by its address" }}{{ end }}
{{- if and $v.fleet.enabled (regexMatch `(?m)^[ \t]*listen\b` $v.fleet.lines) }}{{ fail "fleet.lines has listen: the members of the chart find each other on port 9254, which its Service and its NetworkPolicy name, so remove that line" }}{{ end }}
{{- if and $v.service.loadBalancerSourceRanges (ne $v.service.type "LoadBalancer") }}{{ fail "service.loadBalancerSourceRanges is for service.type LoadBalancer alone" }}{{ end }}
{{- if and (eq $v.mode "existing") (semverCompare "<4.0.0-0" .Capabilities.HelmVersion.Version) }}{{ fail "the mode existing needs Helm 4, which changes parts of objects by server-side apply: use that, or deploy/kubernetes/existing with kubectl" }}{{ end }}
{{- if and (eq $v.mode "existing") (or $v.env $v.volumes $v.volumeMounts $v.podAnnotations $v.podLabels $v.nodeSelector $v.tolerations $v.affinity $v.priorityClassName) }}{{ fail "env, volumes, volumeMounts, podAnnotations, podLabels, nodeSelector, tolerations, affinity and priorityClassName are not for the mode existing: change them in the Deployment that is there" }}{{ end }}
{{- end }}

{{/*
An own Corefile has what the probes of the Deployment ask for, on all addresses: without it, no Pod becomes ready, and each is
restarted for ever. A file that it imports may have it, and cannot be read here.
*/}}
{{- define "multivalue.probed" -}}
{{- $corefile := .Values.corefile }}
{{- if not (regexMatch "(?m)^[ \t]*import[ \t]" $corefile) }}
{{- range list (list "health" "8080" "lives") (list "ready" "8181" "may get queries") }}
{{- $line := printf `(?m)^[ \t]*%s([ \t]+(0\.0\.0\.0|\[::\]|\{[$%%]?\w+%%?\})?:%s)?[ \t\r]*([{#].*)?$` (index . 0) (index . 1) }}
{{- if not (regexMatch $line $corefile) }}{{ fail (printf "corefile has no %s on port %s, which the kubelet asks whether a Pod %s: add a line with %s to a server block" (index . 0) (index . 1) (index . 2) (index . 0)) }}{{ end }}
{{- end }}
{{- end }}
{{- end }}

{{/*
The property within takes no network with bits set after its length, and a CoreDNS that reads one does not start. Of IPv6 this
sees the last 16 bits alone.
*/}}
{{- define "multivalue.masked" -}}
{{- $address := first (splitList "/" .) }}
{{- $length := int (last (splitList "/" .)) }}
{{- if contains ":" . }}
{{- if and (le $length 112) (regexMatch ":0*[1-9a-fA-F][0-9a-fA-F]*$" $address) }}{{ fail (printf "stanza.within has %s, with bits set after its length: use %s/%d" . (regexReplaceAll ":[0-9a-fA-F]+$" $address ":0") $length) }}{{ end }}
{{- else }}
{{- $number := 0 }}{{ range splitList "." $address }}{{ $number = add (mul $number 256) (int .) }}{{ end }}
{{- $size := 1 }}{{ range until (int (sub 32 $length)) }}{{ $size = mul $size 2 }}{{ end }}
{{- $base := sub $number (mod $number $size) }}
{{- if ne $number $base }}{{ fail (printf "stanza.within has %s, with bits set after its length: use %d.%d.%d.%d/%d" . (div $base 16777216) (mod (div $base 65536) 256) (mod (div $base 256) 256) (mod $base 256) $length) }}{{ end }}
{{- end }}
{{- end }}
