{{- define "tollgate.labels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "tollgate.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "tollgate.name" -}}
{{ ternary .Release.Name (printf "%s-tollgate" .Release.Name) (contains "tollgate" .Release.Name) | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "tollgate.container" -}}
name: tollgate
image: {{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}{{ with .Values.image.digest }}@{{ . }}{{ end }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
ports: [ { name: https, containerPort: {{ .Values.port }} } ]
# The admin listener stays on loopback, where the kubelet cannot ask; the gate asks itself.
startupProbe:
  exec: { command: [ /tollgate, healthcheck ] }
  periodSeconds: 1
  timeoutSeconds: 5
  failureThreshold: 60
readinessProbe:
  exec: { command: [ /tollgate, healthcheck ] }
  periodSeconds: 5
  timeoutSeconds: 5
livenessProbe:
  exec: { command: [ /tollgate, healthcheck, --live ] }
  periodSeconds: 20
  timeoutSeconds: 5
  failureThreshold: 3
resources: {{- toYaml .Values.resources | nindent 2 }}
securityContext:
  runAsUser: 65532
  runAsGroup: 65532
  runAsNonRoot: true
  readOnlyRootFilesystem: true
  allowPrivilegeEscalation: false
  capabilities: { drop: [ ALL ] }
  seccompProfile: { type: RuntimeDefault }
volumeMounts:
  - { name: tollgate-config, mountPath: /etc/tollgate, readOnly: true }
  {{- if .Values.state }}
  - { name: tollgate-state, mountPath: /var/lib/tollgate }
  {{- end }}
{{- end }}

{{- define "tollgate.volumes" -}}
# One volume, so that what belongs together is swapped together. The pod's fsGroup reads it.
- name: tollgate-config
  projected:
    defaultMode: 0440
    sources:
      - configMap: { name: {{ include "tollgate.name" . }} }
      {{- range $folder, $secret := .Values.secrets }}
      - secret:
          name: {{ $secret.name }}
          items:
            {{- range $secret.keys }}
            - { key: {{ . }}, path: {{ $folder }}/{{ . }} }
            {{- end }}
      {{- end }}
{{- with .Values.state }}
- name: tollgate-state
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
