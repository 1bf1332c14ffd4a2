{{/*
The mode existing reads the Deployment and the ConfigMap that are there, and what an earlier revision saved of them. The
result has: image, what the Deployment gets; corefile, what the ConfigMap gets; selector of the Pods; saved, the image and
the Corefile that were there before. All objects are in every revision, also those that do not change: Helm deletes what
is not, unless the object itself says keep, and another tool may have replaced it by one that does not.
*/}}
{{- define "multivalue.existing" -}}
{{- $v := .Values }}
{{- $e := $v.existing }}
{{- $ns := .Release.Namespace }}
{{- $deployment := lookup "apps/v1" "Deployment" $ns $e.deployment }}
{{- $config := lookup "v1" "ConfigMap" $ns $e.configMap }}
{{- $saved := (include "multivalue.saved" . | fromYaml).data | default dict }}
{{- if and .Release.IsUpgrade (include "multivalue.owned" .) }}{{ fail "this release has another mode than existing, and Helm would delete what that made, which with cluster-dns is the DNS of the cluster: install the mode existing as a release of another name" }}{{ end }}
{{- range list "deployment" "configMap" }}
{{- if and $saved $.Release.IsUpgrade (ne (get $saved .) (get $e .)) }}{{ fail (printf "existing.%s was %s: Helm would delete that one, so uninstall the release first, which changes nothing" . (get $saved .)) }}{{ end }}
{{- end }}
{{- if not $deployment }}{{ fail (printf "there is no Deployment %s in the namespace %s: install into the namespace of the CoreDNS that is there, with a Helm that talks to the cluster (helm template does only with --dry-run=server)" $e.deployment $ns) }}{{ end }}
{{- if not (dig "data" "Corefile" "" $config) }}{{ fail (printf "the ConfigMap %s in the namespace %s has no Corefile: name the one of the CoreDNS that is there as existing.configMap" $e.configMap $ns) }}{{ end }}
{{- $running := "" }}
{{- range $deployment.spec.template.spec.containers }}{{ if eq .name $e.container }}{{ $running = .image }}{{ end }}{{ end }}
{{- if not $running }}{{ fail (printf "the Deployment %s has no container %s: name it as existing.container" $e.deployment $e.container) }}{{ end }}
{{- $live := $config.data.Corefile }}
{{- $judged := regexMatch "(?m)^\\s*multivalue(\\s|$)" $live }}
{{- $ours := include "multivalue.image" . }}

{{- /* What was there before is what is there, unless a release of the chart changed it. Then a release has saved it. */}}
{{- if and $judged (not $saved) }}{{ fail (printf "the Corefile in the ConfigMap %s has multivalue, and not from this chart: remove it as it came, such as with deploy/kubernetes/existing, and then install the chart" $e.configMap) }}{{ end }}
{{- $tag := "(@|:[^/:]*$).*" }}
{{- $repository := regexReplaceAll $tag $running "" }}
{{- $changed := and $saved (has $repository (list (regexReplaceAll $tag $ours "") (regexReplaceAll $tag ($saved.ours | default "") ""))) }}
{{- $before := dict "Corefile" (ternary $saved.Corefile $live $judged) "image" (ternary $saved.image $running (not (empty $changed))) "ours" $ours "deployment" $e.deployment "configMap" $e.configMap }}

{{- /* One step at a time: a CoreDNS of before refuses a Corefile with multivalue. */}}
{{- $corefile := $before.Corefile }}
{{- if eq $e.step "corefile" }}
{{- if not $judged }}
{{- $s := $deployment.status | default dict }}
{{- $all := int ($deployment.spec.replicas | default 1) }}
{{- $done := and (ge (int64 ($s.observedGeneration | default 0)) (int64 $deployment.metadata.generation)) (eq (int ($s.updatedReplicas | default 0)) $all) (eq (int ($s.replicas | default 0)) $all) (eq (int ($s.readyReplicas | default 0)) $all) }}
{{- if or (ne $running $ours) (not $done) }}{{ fail (printf "not all Pods run %s yet, and a CoreDNS without multivalue refuses this Corefile: upgrade with existing.step=image first, and wait for kubectl -n %s rollout status deployment/%s" $ours $ns $e.deployment) }}{{ end }}
{{- end }}
{{- $corefile = include "multivalue.newCorefile" (dict "root" . "before" $before.Corefile) }}
{{- else if and (eq $e.step "before") $judged }}{{ fail "the Corefile still has multivalue, which the image of before refuses: upgrade with existing.step=image first" }}
{{- end }}
{{- dict "image" (ternary $before.image $ours (eq $e.step "before")) "corefile" $corefile "saved" $before "selector" $deployment.spec.selector.matchLabels | toYaml }}
{{- end }}

{{/* What a release with the mode existing has saved. */}}
{{- define "multivalue.saved" -}}
{{- lookup "v1" "ConfigMap" .Release.Namespace (printf "%s-before" (include "multivalue.name" .)) | toYaml }}
{{- end }}

{{/*
Not empty if an object is there that this release makes in the modes beside and cluster-dns, and never in the mode existing.
What the mode existing saved says nothing of that: it outlives the release, and a later one of the same name finds it.
*/}}
{{- define "multivalue.owned" -}}
{{- range $kind, $version := dict "ConfigMap" "v1" "Deployment" "apps/v1" }}
{{- $object := lookup $version $kind $.Release.Namespace (include "multivalue.name" $) }}
{{- if eq (dig "metadata" "labels" "app.kubernetes.io/instance" "" $object) $.Release.Name }}{{ $kind }}{{ end }}
{{- end }}
{{- end }}

{{/* The Corefile of before with the stanza above the plugin kubernetes, or the whole one of the values. */}}
{{- define "multivalue.newCorefile" -}}
{{- $v := .root.Values }}
{{- if $v.corefile }}
{{- if not (regexMatch "(?m)^\\s*multivalue(\\s|$)" $v.corefile) }}{{ fail "corefile has no multivalue, by which the chart knows its Corefile from that of before: add the stanza" }}{{ end }}
{{- trim $v.corefile }}
{{- else }}
{{- $pattern := `(?m)^[ \t]*kubernetes[ \t].*$` }}
{{- $lines := regexFindAll $pattern .before -1 }}
{{- if ne (len $lines) 1 }}{{ fail (printf "the Corefile has %d lines with kubernetes, so it is not clear where multivalue belongs: give the whole Corefile as corefile" (len $lines)) }}{{ end }}
{{- $line := first $lines }}
{{- $indent := regexFind "^[ \\t]*" $line }}
{{- $stanza := printf "%s%s\n" $indent (include "multivalue.stanza" .root | replace "\n" (printf "\n%s" $indent)) }}
{{- trim (regexReplaceAllLiteral $pattern .before (printf "%s%s" $stanza $line)) }}
{{- end }}
{{- end }}
