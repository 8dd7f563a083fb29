"""`gigpo train` with a name on the hub: fetched from a real HTTP server, pinned, and trained."""

from __future__ import annotations

from pathlib import Path

import yaml

from services.contracts.job import ScratchModel
from services.contracts.templates import plain_words
from services.env.environments.grid import Grid
from services.trainer.learner.scratch import build_scratch
from tests.hub_server import COMMIT, hub_server
from tests.integration.stack.test_stack_started_by_command import JOB, begun, ended, variables

__all__ = ["variables"]

NAME = "Tiny/Grid-1"


def test_a_model_of_the_hub_is_fetched_with_progress_and_trained(variables: dict[str, str], tmp_path: Path) -> None:
    words = [*Grid.vocabulary(), *plain_words("grid/v1", {})]
    build_scratch(ScratchModel(hidden_size=32, num_attention_heads=1), words, 0, tmp_path / "model")
    document = {**JOB, "model": {"model": NAME}}
    document["environment"] = {"environment": "grid", "max_turns": 2, "prompt_form": "plain"}
    (tmp_path / "hub.yaml").write_text(yaml.safe_dump(document))
    refused = ended(begun(variables, tmp_path, "train", "hub.yaml"))
    assert (refused[0], refused[1]) == (2, "")
    assert f"`hf download {NAME} --local-dir DIR`" in refused[2]
    assert not (tmp_path / "runs").exists()

    with hub_server(NAME, tmp_path / "model", modeling_py=b"raise SystemExit", pytorch__model_bin=b"x") as hub:
        given = {**variables, "API_HUB_MODELS": "true", "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home")}
        status, out, err = ended(begun(given, tmp_path, "train", "hub.yaml", "--name", "hub"))
    assert (status, err) == (0, ""), out
    assert f"phase fetch {NAME} " in out
    assert yaml.safe_load((tmp_path / "runs" / "hub" / "spec.yaml").read_text())["model"]["model_revision"] == COMMIT
    got = {line.rpartition("/")[2] for line in hub.asked if line.startswith("GET ") and "/resolve/" in line}
    assert got == {
        "config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"
    }  # fmt: skip
