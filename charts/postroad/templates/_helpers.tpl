{{/* Names in the release's namespace. */}}
{{- define "postroad.name" -}}
{{ printf "%s-operator" .Release.Name | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* Cluster-scoped names also carry the namespace: two releases must not collide. */}}
{{- define "postroad.clusterName" -}}
{{ printf "%s-%s-operator" .Release.Namespace .Release.Name | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "postroad.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "postroad.selector" -}}
app.kubernetes.io/name: postroad-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "postroad.labels" -}}
{{ include "postroad.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{/* What the operator may do, and why. */}}
{{- define "postroad.rules" -}}
# What people ask for.
- apiGroups: [postroad.dev]
  resources: [smtprelays, smtpcredentials]
  verbs: [get, list, watch]
# What they are told of it. The operator never writes a spec.
- apiGroups: [postroad.dev]
  resources: [smtprelays/status, smtpcredentials/status]
  verbs: [patch]
# What it makes is owned by a relay or a credential and blocks its deletion; clusters that check owner references
# (admission plugin OwnerReferencesPermissionEnforcement, on in OpenShift) ask for this right.
- apiGroups: [postroad.dev]
  resources: [smtprelays/finalizers, smtpcredentials/finalizers]
  verbs: [update]
# Certificates, verifiers and bindings that it makes, and logins that a relay refers to: by name only. No list, no watch: it
# cannot enumerate Secrets. Whoever may create a SmtpRelay learns from its conditions whether a Secret that it names is there.
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, create, patch, delete]
# The configuration, the stable name and the identity of relays; they go with their owner.
- apiGroups: [""]
  resources: [configmaps, services, serviceaccounts]
  verbs: [get, list, watch, create, patch]
# The disks of relays; one whose replica has delivered everything is deleted.
- apiGroups: [""]
  resources: [persistentvolumeclaims]
  verbs: [get, list, watch, create, patch, delete]
# One Deployment per replica.
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, list, watch, create, patch, delete]
# So that a node's drain takes one replica at a time.
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch, delete]
# To find the replicas and ask how they are; the patch is an annotation that makes the kubelet refresh mounted files at once.
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch, patch]
# To say what happened; repeated events are patched.
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end }}
