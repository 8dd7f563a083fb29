from services.inference.vllm_statistics import statistics

PAGE = """
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="policy"} 3.0
vllm:num_requests_running{engine="1",model_name="policy"} 1.0
vllm:kv_cache_usage_perc{engine="0",model_name="policy"} 0.25
vllm:kv_cache_usage_perc{engine="1",model_name="policy"} 0.5
vllm:prefix_cache_hits_total{engine="0",model_name="policy"} 1.2e+06
vllm:prefix_cache_hits_created{engine="0",model_name="policy"} 1.7e+09
"""


def test_load_is_summed_over_engines_and_shares_are_the_largest() -> None:
    assert statistics(PAGE) == {"running": 4.0, "kv_cache_share": 0.5, "prefix_cached_tokens": 1.2e6}


def test_a_page_of_something_else_says_nothing() -> None:
    assert statistics("<html>404</html>") == {}
