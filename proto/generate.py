"""Write the Python code of every contract in this folder. Run: python proto/generate.py [--check]

The output is committed. With --check nothing is written, and the status is 1 where anything would change.
"""

import sys
import sysconfig
import tempfile
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent


def generate(folder: Path) -> None:
    """Write *_pb2.py, *_pb2_grpc.py and their typed stubs for each .proto below `folder`; SystemExit where protoc
    fails."""
    scripts = Path(sysconfig.get_path("scripts"))
    contracts = sorted(str(path.relative_to(ROOT)) for path in ROOT.rglob("*.proto"))
    status = protoc.main(
        [
            "protoc",
            f"--proto_path={ROOT}",
            f"--plugin=protoc-gen-mypy={scripts / 'protoc-gen-mypy'}",
            f"--plugin=protoc-gen-mypy_grpc={scripts / 'protoc-gen-mypy_grpc'}",
            f"--python_out={folder}",
            f"--grpc_python_out={folder}",
            f"--mypy_out={folder}",
            f"--mypy_grpc_out={folder}",
            *contracts,
        ]
    )
    if status != 0:
        sys.exit(f"protoc failed with status {status}")


def check() -> None:
    """SystemExit that names every committed file that differs from what its contract gives."""
    with tempfile.TemporaryDirectory() as temporary:
        generate(Path(temporary))
        made = [path.relative_to(temporary) for path in Path(temporary).rglob("*_pb2*.py*")]
        stale = [
            str(path)
            for path in made
            if not (ROOT / path).exists() or (ROOT / path).read_bytes() != (temporary / path).read_bytes()
        ]
    if stale:
        sys.exit(f"stale, run `make proto`: {', '.join(sorted(stale))}")


if __name__ == "__main__":
    check() if "--check" in sys.argv[1:] else generate(ROOT)
