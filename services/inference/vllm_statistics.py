"""What a vLLM server says of its load, from its Prometheus page."""

from __future__ import annotations

import re
from collections.abc import Mapping

NAMES: Mapping[str, str] = {
    "vllm:num_requests_running": "running",
    "vllm:num_requests_waiting": "waiting",
    "vllm:kv_cache_usage_perc": "kv_cache_share",
    "vllm:num_preemptions_total": "preemptions",
    "vllm:prefix_cache_queries_total": "prefix_queried_tokens",
    "vllm:prefix_cache_hits_total": "prefix_cached_tokens",
}
"""vLLM's name -> ours. The last three only grow while a server lives."""
_SAMPLE = re.compile(r"^(vllm:\w+)(?:\{.*\})? (\S+)$", re.MULTILINE)


def statistics(page: str) -> dict[str, float]:
    """Our names of those that the page has; of several engines the sum, of shares the largest."""
    found: dict[str, float] = {}
    for name, value in _SAMPLE.findall(page):
        if (ours := NAMES.get(name)) is not None:
            former = found.get(ours, 0.0)
            found[ours] = max(former, float(value)) if ours.endswith("_share") else former + float(value)
    return found
