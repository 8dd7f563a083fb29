#!/bin/sh
# Writes what docker-compose.yml wants to know and nobody has to choose into .env: the administrator's key and a password of
# Redis for each service. A name that is there keeps its value, so a second call changes nothing.
set -eu
umask 077
touch .env
for name in GIGPO_API_KEY GIGPO_REDIS_OPERATOR GIGPO_REDIS_ADVANTAGE GIGPO_REDIS_ROLLOUT GIGPO_REDIS_INFERENCE \
    GIGPO_REDIS_TRAINER GIGPO_REDIS_API; do
  grep -q "^$name=" .env || printf '%s=%s\n' "$name" "$(openssl rand -hex 24)" >>.env
done
