"""Heavy packages load only where they are used: a light import in a fresh interpreter stays light."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = ("vllm", "celery", "grpc", "torch", "transformers", "fastapi")


def heavy_after_importing(module: str) -> list[str]:
    program = f"import json, sys, {module}; print(json.dumps([m for m in {HEAVY!r} if m in sys.modules]))"
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded: list[str] = json.loads(answer.stdout)
    return loaded


@pytest.mark.parametrize("service", ["advantage", "api", "env", "inference", "rollout", "trainer"])
def test_reading_settings_loads_nothing_heavy(service: str):
    assert heavy_after_importing(f"services.{service}.settings") == []


@pytest.mark.parametrize(
    "module",
    [
        "gigpo_core.digest",
        "gigpo_core.algorithms",
        "gigpo_core.config",
        "gigpo_core.loss_config",
        "gigpo_core.table",
        "services.contracts.job",
        "services.ledger",
        "gigpo.client.main",
    ],
)
def test_contracts_digests_and_the_command_load_nothing_heavy(module: str):
    assert heavy_after_importing(module) == []


def test_the_trainers_child_leaves_torch_to_its_ranks():
    job = "services.trainer.job.warm_sessions, services.trainer.trackers.tensorboard"
    program = f"services.trainer.celery_worker.tasks, {job}"
    assert heavy_after_importing(program) == ["celery"]


def test_the_mathematics_loads_torch_and_no_service_framework():
    assert heavy_after_importing("gigpo_core, gigpo_core.anchors") in ([], ["torch"])


def test_the_client_loads_its_http_library_with_its_first_use():
    told = "print('httpx' in sys.modules)"
    program = f"import gigpo, gigpo.env, sys; {told}; gigpo.GigpoClient; {told}"
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert answer.stdout.split() == ["False", "True"]


def test_the_api_loads_the_hubs_client_with_its_first_use():
    program = "import services.api.main, sys; print([m for m in ('huggingface_hub', 'torch') if m in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
