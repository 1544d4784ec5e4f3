{{/* Labels of every object of the chart. */}}
{{- define "kaizen.labels" -}}
app.kubernetes.io/name: kaizen
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{/* Whether the embedded S3 server is used: on, and no other endpoint given. */}}
{{- define "kaizen.embedded" -}}
{{- if and .Values.embeddedServer.enabled (not .Values.bucket.endpoint) }}
{{- if .Values.bucket.secretName }}
{{- fail "bucket.secretName is for your own bucket: set bucket.endpoint too, or embeddedServer.enabled=false for AWS" }}
{{- end }}true{{ end -}}
{{- end }}

{{/* An image: call with (dict "root" $ "image" .Values.images.operator). */}}
{{- define "kaizen.image" -}}
{{ .image.repository }}:{{ .image.tag | default .root.Chart.AppVersion }}
{{- end }}

{{/* Nothing a container could do harm with. */}}
{{- define "kaizen.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- define "kaizen.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end }}
