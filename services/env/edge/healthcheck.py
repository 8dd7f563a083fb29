"""`python -m services.env.edge.healthcheck`: exit status 0 while the environment service of this machine is SERVING."""

from __future__ import annotations

import sys

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.env.settings import read_settings

TIMEOUT_S = 3.0
"""Longest wait for the answer."""


def status(port: int) -> str:
    """SERVING, NOT_SERVING, or why there is no answer."""
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        try:
            answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=TIMEOUT_S)
        except grpc.RpcError as error:
            return str(error.code().name)
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))


def main() -> int:
    """Exit status: 0 SERVING, 1 anything else."""
    found = status(read_settings().port)
    if found != "SERVING":
        sys.stderr.write(f"env: {found}\n")
    return 0 if found == "SERVING" else 1


if __name__ == "__main__":
    sys.exit(main())
