{{- /* A pod of a service. Takes a dict of root, name, service; with `worker` one of the further nodes of a group. */}}
{{- define "gigpo.pod" -}}
{{- $root := .root }}
{{- $name := .name }}
{{- $service := .service }}
{{- $full := include "gigpo.fullname" $root }}
{{- $writes := has $name (list "api" "trainer" "inference") }}
{{- $models := and $root.Values.models.claimName (ne $name "advantage") -}}
metadata:
  labels: {{- include "gigpo.labels" . | nindent 4 }}
    {{- with $service.podLabels }}{{ toYaml . | nindent 4 }}{{ end }}
  {{- $scraped := dict "prometheus.io/scrape" "true" "prometheus.io/port" (toString $root.Values.metricsPort) }}
  {{- with merge (deepCopy $service.podAnnotations) (or .worker $root.Values.monitoring.serviceMonitor.enabled | ternary dict $scraped) }}
  annotations: {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  serviceAccountName: {{ $root.Values.serviceAccounts.create | ternary (printf "%s-%s" $full $name) "default" }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ add $service.preStopSeconds $service.drainSeconds 20 }}
  securityContext:
    runAsNonRoot: true
    runAsUser: 10001
    runAsGroup: 10001
    fsGroup: 10001
    fsGroupChangePolicy: OnRootMismatch
    seccompProfile: {type: RuntimeDefault}
  {{- with $root.Values.image.pullSecrets }}
  imagePullSecrets:
    {{- range . }}
    - name: {{ . }}
    {{- end }}
  {{- end }}
  {{- range $key := list "runtimeClassName" "priorityClassName" "nodeSelector" "tolerations" "affinity" "topologySpreadConstraints" }}
  {{- with get $service $key }}
  {{ $key }}: {{ toJson . }}
  {{- end }}
  {{- end }}
  containers:
    - name: {{ $name }}
      image: {{ include "gigpo.image" (dict "root" $root "image" $service.image) | quote }}
      imagePullPolicy: {{ $root.Values.image.pullPolicy }}
      command: {{ include "gigpo.command" . }}
      securityContext: {allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}
      env:
        {{- range $key, $value := include "gigpo.variables" . | fromYaml }}
        - {name: {{ $key }}, value: {{ $value | quote }}}
        {{- end }}
        {{- if ne $name "env" }}
        - name: {{ include "gigpo.prefix" $name }}_REDIS_URL
          {{- if $root.Values.valkey.enabled }}
          valueFrom: {secretKeyRef: {name: {{ $full }}-valkey, key: {{ $name }}}}
          {{- else if $root.Values.redis.secretName }}
          valueFrom: {secretKeyRef: {name: {{ $root.Values.redis.secretName }}, key: {{ $root.Values.redis.perService | ternary $name "url" }}}}
          {{- else }}
          value: {{ $root.Values.redis.url | quote }}
          {{- end }}
        {{- end }}
        {{- with and (eq $name "api") (include "gigpo.databaseSecret" $root) }}
        - name: API_DATABASE_URL
          valueFrom: {secretKeyRef: {name: {{ . }}, key: url}}
        {{- end }}
      {{- $from := $service.extraEnvFrom }}
      {{- if and (eq $name "trainer") $root.Values.trackers.secretName }}
      {{- $from = append $from (dict "secretRef" (dict "name" $root.Values.trackers.secretName)) }}
      {{- end }}
      {{- with $from }}
      envFrom: {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- if not .worker }}
      ports:
        - {name: metrics, containerPort: {{ $root.Values.metricsPort }}, protocol: TCP}
        {{- with $service.port }}
        - {name: main, containerPort: {{ . }}, protocol: TCP}
        {{- end }}
      {{- end }}
      {{- if not .worker }}
      {{- if $service.preStopSeconds }}
      lifecycle: {preStop: {exec: {command: ["sleep", {{ $service.preStopSeconds | quote }}]}}}
      {{- end }}
      # services/kit/side_port.py: alive while the loop turns; ready while dependencies answer and nothing drains
      startupProbe: {httpGet: {path: /livez, port: metrics}, periodSeconds: 5, timeoutSeconds: 5, failureThreshold: 180}
      livenessProbe: {httpGet: {path: /livez, port: metrics}, periodSeconds: 30, timeoutSeconds: 15, failureThreshold: 4}
      readinessProbe: {httpGet: {path: /readyz, port: metrics}, periodSeconds: 10, timeoutSeconds: 10}
      {{- end }}
      {{- $resources := deepCopy $service.resources }}
      {{- if $service.gpu.count }}
      {{- $_ := set $resources "limits" (merge (dict $service.gpu.resourceName (int $service.gpu.count)) ($resources.limits | default dict)) }}
      {{- end }}
      resources: {{- toYaml $resources | nindent 8 }}
      volumeMounts:
        - {name: tmp, mountPath: /tmp}
        {{- if or $writes (eq $name "rollout") }}
        - {name: data, mountPath: /data{{ if not $writes }}, readOnly: true{{ end }}}
        {{- end }}
        {{- if $models }}
        - {name: models, mountPath: /models, readOnly: true}
        {{- end }}
        {{- if eq $name "api" }}
        - {name: api-key, mountPath: /secrets/api, readOnly: true}
        {{- end }}
        {{- if $service.shmSize }}
        - {name: shm, mountPath: /dev/shm}
        {{- end }}
        {{- with $service.extraVolumeMounts }}{{ toYaml . | nindent 8 }}{{ end }}
  volumes:
    - {name: tmp, emptyDir: {sizeLimit: {{ $service.tmpSize }}}}
    {{- if or $writes (eq $name "rollout") }}
    - {name: data, persistentVolumeClaim: {claimName: {{ $root.Values.data.claimName }}}}
    {{- end }}
    {{- if $models }}
    - {name: models, persistentVolumeClaim: {claimName: {{ $root.Values.models.claimName }}, readOnly: true}}
    {{- end }}
    {{- if eq $name "api" }}
    - {name: api-key, secret: {secretName: {{ include "gigpo.keySecret" $root }}, defaultMode: 0440, items: [{key: api-key, path: api-key}]}}
    {{- end }}
    {{- with $service.shmSize }}
    - {name: shm, emptyDir: {medium: Memory, sizeLimit: {{ . }}}}
    {{- end }}
    {{- with $service.extraVolumes }}{{ toYaml . | nindent 4 }}{{ end }}
{{- end }}

{{- define "gigpo.command" -}}
{{- if and .worker (eq .name "trainer") -}}
["python3", "-m", "services.trainer.ranks.node"]
{{- else if .worker -}}
["ray", "start", "--block", "--disable-usage-stats", "--address=$(LWS_LEADER_ADDRESS):6379"]
{{- else if and (eq .name "inference") (gt (int .service.nodes) 1) -}}
["sh", "-c", "ray start --head --port=6379 --disable-usage-stats && exec python3 -m services.inference.main"]
{{- else -}}
["python3", "-m", "services.{{ .name }}.main"]
{{- end -}}
{{- end }}
