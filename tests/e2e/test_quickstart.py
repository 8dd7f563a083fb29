"""docs/quickstart.md is followed as it stands, with fewer batches: from a class of one's own to a trained policy."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.documents import ROOT, code_blocks
from tests.e2e.doc_sessions import Session, blocks

pytestmark = [pytest.mark.timeout(900), pytest.mark.filterwarnings("ignore::DeprecationWarning")]

PAGE = ROOT / "docs" / "quickstart.md"
SHORTER = {"total_batches: 20": "total_batches: 5"}
FEWER = "evaluation: {eval_episodes: 32, eval_baselines: false}\n"
STEPS = ("2. Check it", "4. Train", "5. See why", "6. Use the policy")


def test_the_quickstart_leads_from_a_class_to_a_policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("GIGPO_API_URL", "GIGPO_API_KEY", "GIGPO_RUNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("STACK_API_PORT", "0")
    shown = {block.language: block.code for block in reversed(list(code_blocks("", PAGE.read_text("utf-8"))))}
    job = shown["yaml"]
    for long, short in SHORTER.items():
        assert long in job
        job = job.replace(long, short)
    (tmp_path / "corridor.py").write_text(shown["python"])
    (tmp_path / "corridor.yaml").write_text(job + FEWER)
    printed = ""
    with Session("http://127.0.0.1:8400") as session:
        for step in STEPS:
            for block in blocks(PAGE, step):
                printed += session.run(block)
    assert "failed" not in printed
    assert "evaluation after: success" in printed
    assert (tmp_path / "runs" / "corridor" / "checkpoint" / "model.safetensors").is_file()
    assert printed.split()[-1] in ("left", "right")
