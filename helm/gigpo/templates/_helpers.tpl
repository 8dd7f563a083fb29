{{- define "gigpo.fullname" -}}
{{- if .Values.fullnameOverride -}}{{ .Values.fullnameOverride }}
{{- else if contains "gigpo" .Release.Name -}}{{ .Release.Name | trunc 52 | trimSuffix "-" }}
{{- else -}}{{ printf "%s-gigpo" .Release.Name | trunc 52 | trimSuffix "-" }}
{{- end -}}
{{- end }}

{{- /* Labels that choose the pods of this release; with `name` those of one service. Takes a dict of root and name. */}}
{{- define "gigpo.selector" -}}
{app.kubernetes.io/name: gigpo, app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
{{- with .name }}, app.kubernetes.io/component: {{ . }}{{ end }}}
{{- end }}

{{- define "gigpo.labels" -}}
app.kubernetes.io/name: gigpo
app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
{{- with .name }}
app.kubernetes.io/component: {{ . }}
{{- end }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end }}

{{- /* The image `light`, `torch`, ..., with its digest where one is given. Takes a dict of root and image. */}}
{{- define "gigpo.image" -}}
{{- $of := .root.Values.image -}}
{{ $of.repository }}-{{ .image }}:{{ $of.tag | default .root.Chart.AppVersion }}{{ with index $of.digests .image }}@{{ . }}{{ end }}
{{- end }}

{{- /* Names of the Secrets that hold the key and the database's address: the installer's, or those of secrets.yaml. */}}
{{- define "gigpo.keySecret" -}}
{{ .Values.apiKeySecret | default (printf "%s-key" (include "gigpo.fullname" .)) }}
{{- end }}

{{- define "gigpo.databaseSecret" -}}
{{ .Values.postgresql.enabled | ternary (printf "%s-postgresql" (include "gigpo.fullname" .)) .Values.database.secretName }}
{{- end }}

{{- define "gigpo.prefix" -}}
{{ eq . "env" | ternary "ENV_SERVICE" (upper .) }}
{{- end }}

{{- /* A service's environment variables that hold no secret, as YAML: ours, and its extraEnv over them. */}}
{{- define "gigpo.variables" -}}
{{- $root := .root -}}
{{- $prefix := include "gigpo.prefix" .name -}}
{{- $own := dict "PULSE_FILE" "/tmp/pulse" "METRICS_HOST" "0.0.0.0" "METRICS_PORT" (int $root.Values.metricsPort) -}}
{{- if .service.port }}{{ $own = merge $own (dict "HOST" "0.0.0.0" "PORT" (int .service.port)) }}{{ end -}}
{{- if has .name (list "api" "env" "rollout" "inference") }}{{ $_ := set $own "DRAIN_S" (int .service.drainSeconds) }}{{ end -}}
{{- if has .name (list "api" "rollout") -}}
{{- $_ := set $own "ENV_ADDRESS" (printf "%s-env:%d" (include "gigpo.fullname" $root) (int $root.Values.services.env.port)) -}}
{{- end -}}
{{- if and $root.Values.tracing.url (has .name (list "advantage" "rollout" "trainer" "inference")) }}{{ $own = merge $own (dict "TRACES_URL" $root.Values.tracing.url "TRACES_SHARE" $root.Values.tracing.share) }}{{ end -}}
{{- if eq .name "trainer" }}{{ $own = merge $own (dict "RANKS" (int .service.ranks) "SHARD_RANKS" (int .service.shardRanks)) }}{{ end -}}
{{- if gt (int (.service.nodes | default 1)) 1 -}}
{{- if eq .name "trainer" }}{{ $own = merge $own (dict "NODES" (int .service.nodes) "NODE" "$(LWS_WORKER_INDEX)" "RENDEZVOUS" "$(LWS_LEADER_ADDRESS):29500") }}{{ end -}}
{{- if eq .name "inference" }}{{ $_ := set $own "VLLM_NODES" (int .service.nodes) }}{{ end -}}
{{- end -}}
{{- if eq .name "api" -}}
{{- $own = merge $own (dict "KEY_FILE" "/secrets/api/api-key" "TRACKERS" $root.Values.trackers.names) -}}
{{- if $root.Values.models.claimName }}{{ $_ := set $own "MODEL_ROOTS" "[\"/models\"]" }}{{ end -}}
{{- if or .service.autoscaling.enabled (gt (int .service.replicas) 1) }}{{ $_ := set $own "RATE_STORAGE" "redis" }}{{ end -}}
{{- end -}}
{{- if has .name (list "api" "rollout" "trainer" "inference") }}{{ $_ := set $own "DATA_DIR" "/data" }}{{ end -}}
{{- $variables := dict -}}
{{- range $key, $value := $own }}{{ $_ := set $variables (printf "%s_%s" $prefix $key) (toString $value) }}{{ end -}}
{{- toYaml (merge (deepCopy .service.extraEnv) $variables) -}}
{{- end }}

{{- /* Sentences for values that are wrong together, which values.schema.json cannot tell. */}}
{{- define "gigpo.check" -}}
{{- $values := .Values -}}
{{- if and $values.valkey.enabled (or $values.redis.url $values.redis.secretName) }}{{ fail "valkey.enabled: want false where redis.url or redis.secretName names a server" }}{{ end -}}
{{- if not (or $values.valkey.enabled $values.redis.url $values.redis.secretName) }}{{ fail "redis.url, redis.secretName: want the address of a Redis or Valkey server, or the name of a Secret that holds it; or set valkey.enabled" }}{{ end -}}
{{- if and $values.redis.url $values.redis.secretName }}{{ fail "redis.url, redis.secretName: want one of the two, got both" }}{{ end -}}
{{- if and $values.redis.perService (not $values.redis.secretName) }}{{ fail "redis.perService: wants redis.secretName, none is given" }}{{ end -}}
{{- if and $values.redis.url $values.networkPolicy.enabled -}}
{{- $found := regexFindAll ":[0-9]+([,/?]|$)" $values.redis.url -1 | default (list ":6379") -}}
{{- range $found -}}
{{- $port := regexFind "[0-9]+" . -}}
{{- if not (has $port (splitList "," (join "," $values.networkPolicy.redis.ports))) }}{{ fail (printf "networkPolicy.redis.ports: want the port of redis.url, %s, among them, otherwise no service reaches it; got %v" $port $values.networkPolicy.redis.ports) }}{{ end -}}
{{- end -}}
{{- end -}}
{{- if not $values.data.claimName }}{{ fail "data.claimName: want the name of a ReadWriteMany claim, none is given" }}{{ end -}}
{{- if not (or $values.postgresql.enabled $values.database.secretName $values.database.sqlite) }}{{ fail "database.secretName: want the name of a Secret with the key url, the address of a PostgreSQL database; or set postgresql.enabled" }}{{ end -}}
{{- if and $values.postgresql.enabled (or $values.database.secretName $values.database.sqlite) }}{{ fail "postgresql.enabled: want false where database.secretName or database.sqlite names a database" }}{{ end -}}
{{- if and $values.database.secretName $values.database.sqlite }}{{ fail "database.secretName, database.sqlite: want one of the two, got both" }}{{ end -}}
{{- $api := $values.services.api -}}
{{- if and $values.database.sqlite (or $api.autoscaling.enabled (gt (int $api.replicas) 1)) }}{{ fail "database.sqlite: is for a single API pod, got services.api.replicas above 1 or services.api.autoscaling.enabled" }}{{ end -}}
{{- if and $values.ingress.enabled (not $values.ingress.host) }}{{ fail "ingress.host: want the host's name, none is given" }}{{ end -}}
{{- if and $values.ingress.enabled (not $values.ingress.tlsSecretName) }}{{ fail "ingress.tlsSecretName: want the name of a TLS Secret, because keys go over this connection; none is given" }}{{ end -}}
{{- range $name, $service := $values.services -}}
{{- include "gigpo.checkService" (dict "root" $ "name" $name "service" $service) -}}
{{- end -}}
{{- end }}

{{- define "gigpo.checkService" -}}
{{- $at := printf "services.%s" .name -}}
{{- $service := .service -}}
{{- if eq (int $service.port) (int .root.Values.metricsPort) }}{{ fail (printf "%s.port: want a port other than metricsPort, got %d for both" $at (int $service.port)) }}{{ end -}}
{{- $strategy := $service.strategy -}}
{{- if and (eq $strategy.type "RollingUpdate") (has (toString $strategy.maxSurge) (list "0" "0%")) (has (toString $strategy.maxUnavailable) (list "0" "0%")) }}{{ fail (printf "%s.strategy: want maxSurge or maxUnavailable above 0, got 0 for both" $at) }}{{ end -}}
{{- if eq .name "trainer" -}}
{{- $share := div (int $service.ranks) (int $service.nodes) -}}
{{- if mod (int $service.ranks) (int $service.nodes) }}{{ fail (printf "%s.nodes: want a divisor of ranks, %d, got %d" $at (int $service.ranks) (int $service.nodes)) }}{{ end -}}
{{- if and (gt (int $service.gpu.count) 0) (ne (int $service.gpu.count) (int $share)) }}{{ fail (printf "%s.gpu.count: want 0 or ranks / nodes, %d, because each rank has a GPU of its own; got %d" $at (int $share) (int $service.gpu.count)) }}{{ end -}}
{{- end -}}
{{- if and (eq .name "inference") (gt (int $service.nodes) 1) (ne $service.image "vllm") }}{{ fail (printf "%s.nodes: want 1 with the image %s, got %d" $at $service.image (int $service.nodes)) }}{{ end -}}
{{- if and (eq .name "trainer") $service.shardRanks (ne (mod (int $service.ranks) (max 1 (int $service.shardRanks))) 0) }}{{ fail (printf "%s.shardRanks: want a divisor of ranks, %d, got %d" $at (int $service.ranks) (int $service.shardRanks)) }}{{ end -}}
{{- if and (eq $service.image "vllm-cpu") (gt (int $service.gpu.count) 0) }}{{ fail (printf "%s.gpu.count: want 0 with the image vllm-cpu, got %d" $at (int $service.gpu.count)) }}{{ end -}}
{{- $scaling := $service.autoscaling -}}
{{- if $scaling.enabled -}}
{{- if lt (int $scaling.maxReplicas) (int $scaling.minReplicas) }}{{ fail (printf "%s.autoscaling.maxReplicas: want at least minReplicas, %d, got %d" $at (int $scaling.minReplicas) (int $scaling.maxReplicas)) }}{{ end -}}
{{- if and (ne .name "api") (not .root.Values.monitoring.prometheusUrl) }}{{ fail (printf "monitoring.prometheusUrl: want the address that KEDA asks, because %s.autoscaling is enabled; none is given" $at) }}{{ end -}}
{{- end -}}
{{- range $volume := $service.extraVolumes -}}
{{- if has $volume.name (list "tmp" "data" "models" "api-key" "shm") }}{{ fail (printf "%s.extraVolumes: want a name that the chart does not use itself, got %s" $at $volume.name) }}{{ end -}}
{{- end -}}
{{- $ours := list "PORT" "HOST" "METRICS_PORT" "METRICS_HOST" "DRAIN_S" "REDIS_URL" "DATA_DIR" "ENV_ADDRESS" -}}
{{- $ours = concat $ours (list "KEY" "KEY_FILE" "DATABASE_URL" "TRACKERS" "RANKS" "SHARD_RANKS" "NODES" "NODE" "RENDEZVOUS" "VLLM_NODES" "TRACES_URL" "PULSE_FILE") -}}
{{- $prefix := include "gigpo.prefix" .name -}}
{{- range $key, $_ := $service.extraEnv -}}
{{- if has (trimPrefix (printf "%s_" $prefix) $key) $ours | and (hasPrefix $prefix $key) }}{{ fail (printf "%s.extraEnv: %s is made from other values; set those" $at $key) }}{{ end -}}
{{- end -}}
{{- end }}
