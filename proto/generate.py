"""Write the Python code of every contract in this folder. Run: python proto/generate.py

The output is committed; the gate runs this again and fails when anything changed.
"""

import sys
import sysconfig
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent


def generate() -> None:
    """Write *_pb2.py, *_pb2_grpc.py and their typed stubs beside each .proto; SystemExit where protoc fails."""
    scripts = Path(sysconfig.get_path("scripts"))
    contracts = sorted(str(path.relative_to(ROOT)) for path in ROOT.rglob("*.proto"))
    status = protoc.main(
        [
            "protoc",
            f"--proto_path={ROOT}",
            f"--plugin=protoc-gen-mypy={scripts / 'protoc-gen-mypy'}",
            f"--plugin=protoc-gen-mypy_grpc={scripts / 'protoc-gen-mypy_grpc'}",
            f"--python_out={ROOT}",
            f"--grpc_python_out={ROOT}",
            f"--mypy_out={ROOT}",
            f"--mypy_grpc_out={ROOT}",
            *contracts,
        ]
    )
    if status != 0:
        sys.exit(f"protoc failed with status {status}")


if __name__ == "__main__":
    generate()
