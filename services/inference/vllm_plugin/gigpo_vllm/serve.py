"""`python -m gigpo_vllm.serve PARENT_PID [vLLM server flags]`: vLLM's API server, bound to its parent's life.

vLLM is imported after the binding, so that no process is left when the parent dies during the slow start.
"""

from __future__ import annotations

import sys

from gigpo_vllm.parent import die_with_parent


def main() -> None:
    die_with_parent(int(sys.argv.pop(1)))
    from vllm.entrypoints.launchers.api_server.entry import main as serve

    serve()


if __name__ == "__main__":
    main()
