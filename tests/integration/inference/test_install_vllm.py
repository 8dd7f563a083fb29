import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[3] / "services" / "inference" / "install_vllm.py"


def test_where_vllm_cannot_be_installed_the_alternative_is_named(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file, where the environment's folder should be")
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(tmp_path / "taken")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 3
    assert "does not install here" in done.stderr
    assert "engine: transformers" in done.stderr
