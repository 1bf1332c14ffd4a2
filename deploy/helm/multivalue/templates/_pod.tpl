{{/* What the Pod of a CoreDNS needs for fleet and state: the parts that the mode existing adds to the one that is there. */}}
{{- define "multivalue.addedEnv" -}}
{{- if .Values.fleet.enabled }}
- name: POD_IP
  valueFrom: {fieldRef: {fieldPath: status.podIP}}
{{- end }}
{{- end }}

{{- define "multivalue.addedPorts" -}}
{{- if .Values.fleet.enabled }}
- {name: fleet, containerPort: 9254, protocol: TCP}
- {name: fleet-udp, containerPort: 9254, protocol: UDP}
{{- end }}
{{- end }}

{{- define "multivalue.addedMounts" -}}
{{- if .Values.fleet.enabled }}
- {name: fleet, mountPath: /etc/coredns-fleet, readOnly: true}
{{- end }}
{{- if .Values.state.enabled }}
- {name: state, mountPath: /var/lib/coredns}
{{- end }}
{{- end }}

{{/* The key is for the group of the Pod alone. */}}
{{- define "multivalue.addedVolumes" -}}
{{- if .Values.fleet.enabled }}
- name: fleet
  secret:
    secretName: {{ include "multivalue.fleetSecret" . | quote }}
    defaultMode: 0440
    items: [{key: fleet.key, path: fleet.key}]
{{- end }}
{{- if .Values.state.enabled }}
- name: state
  emptyDir: {sizeLimit: 64Mi}
{{- end }}
{{- end }}
