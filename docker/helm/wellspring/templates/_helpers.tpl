{{- define "wellspring.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 63 | trimSuffix "-" }}{{ else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 63 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "wellspring.labels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "wellspring.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "wellspring.account" -}}
{{- if .Values.serviceAccount.create }}{{ .Values.serviceAccount.name | default (include "wellspring.name" .) }}{{ else }}{{ .Values.serviceAccount.name | default "default" }}{{ end }}
{{- end }}

{{/* The container and its volumes: for our own pod, or as a sidecar of another chart's that includes them. */}}
{{- define "wellspring.container" -}}
name: wellspring
image: "{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}"
imagePullPolicy: {{ .Values.image.pullPolicy }}
args: ["run"]
env:
  - name: WELLSPRING_CONFIG
    value: /etc/wellspring/config/wellspring.toml
  {{- with .Values.extraEnv }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
ports:
  - name: admin
    containerPort: 9630
livenessProbe:
  httpGet: {path: /livez, port: admin}
  periodSeconds: 15
  failureThreshold: 4
readinessProbe:
  httpGet: {path: /readyz, port: admin}
  periodSeconds: 10
  failureThreshold: 2
resources:
  {{- toYaml .Values.resources | nindent 2 }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  capabilities: {drop: [ALL]}
  seccompProfile: {type: RuntimeDefault}
volumeMounts:
  # The whole directory: a file mounted by subPath never changes, so that a reload would read the old one.
  - {name: wellspring-config, mountPath: /etc/wellspring/config, readOnly: true}
  {{- if .Values.existingSecret }}
  - {name: wellspring-secrets, mountPath: /etc/wellspring/secrets, readOnly: true}
  {{- end }}
  {{- if .Values.caConfigMap }}
  - {name: wellspring-ca, mountPath: /etc/wellspring/ca, readOnly: true}
  {{- end }}
{{- end }}

{{- define "wellspring.volumes" -}}
- name: wellspring-config
  configMap:
    name: {{ include "wellspring.name" . }}
{{- if .Values.existingSecret }}
- name: wellspring-secrets
  secret:
    secretName: {{ .Values.existingSecret }}
    defaultMode: 0440
{{- end }}
{{- if .Values.caConfigMap }}
- name: wellspring-ca
  configMap:
    name: {{ .Values.caConfigMap }}
{{- end }}
{{- end }}
