#!/bin/bash
# Asks the process of this container how it is: probe.sh PATH [PULSE-FILE]
#
# Exit status 0 while its side port (services/kit/side_port.py) answers PATH with 200; the answer goes to stdout. With
# PULSE-FILE (services/kit/pulse.py) a process that has left that file alone for five minutes is killed, so that its
# container ends and is started again: Docker restarts no container that is merely unhealthy. It is written in bash
# because a Python interpreter costs a hundred times as much, every few seconds in each container.
set -u

pulse=${2:-}
if [[ -s $pulse && -n $(find "$pulse" -mmin +5) ]]; then
  read -r pid <"$pulse"
  echo "process $pid has shown no sign of life for five minutes and is killed"
  kill -KILL "$pid"
  exit 1
fi

{ exec 3<>"/dev/tcp/127.0.0.1/${PROBE_PORT:-9100}"; } 2>/dev/null || { echo "nobody listens"; exit 1; }
printf 'GET %s HTTP/1.0\r\n\r\n' "$1" >&3
IFS= read -r -t 10 status <&3 || { echo "no answer"; exit 1; }
while IFS= read -r -t 5 line <&3 && [[ $line != $'\r' ]]; do :; done
while IFS= read -r -t 5 line <&3; do echo "$line"; done
[[ $status == *" 200 "* ]]
