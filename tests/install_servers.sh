#!/usr/bin/env bash
# Installs what the tests run against and pip cannot bring: a PostgreSQL server and a Chromium; with the argument `java`
# a Java runtime. Where this user may not install, it says so and goes on: the tests that need them skip then, and fail
# in CI.
set -euo pipefail
wanted=()
if [ "${1:-}" = java ]; then
    command -v java > /dev/null || wanted+=(default-jre-headless)
else
    ls /usr/lib/postgresql/*/bin/initdb > /dev/null 2>&1 || wanted+=(postgresql)
    command -v chromium > /dev/null || wanted+=(chromium)
fi
[ ${#wanted[@]} -eq 0 ] && exit 0
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get > /dev/null; then
    echo "not installed: ${wanted[*]}; the tests that need them will skip (on Debian: sudo apt-get install ${wanted[*]})"
    exit 0
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update --quiet=2
apt-get install --quiet=2 --yes --no-install-recommends "${wanted[@]}" > /dev/null
