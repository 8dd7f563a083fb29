"""Why vLLM ended, out of its log: the words below are those of vLLM itself, with its stack traces cut short."""

from services.inference.vllm_log import LONGEST_SENTENCE, last_error

TOO_LONG = """\
(APIServer pid=71) INFO 11-29 18:51:13 [utils.py:325] non-default args: {'max_model_len': 212}
(APIServer pid=71) Traceback (most recent call last):
(APIServer pid=71)   File "/x/vllm/entrypoints/openai/api_server.py", line 1, in <module>
(APIServer pid=71)     uvloop.run(run_server(args))
(APIServer pid=71) pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig
(APIServer pid=71)   Value error, User-specified max_model_len (212) is greater than the derived max_model_len \
(max_position_embeddings=32). [type=value_error, input_value=ArgsKwargs((), {'model': 'x'}), input_type=ArgsKwargs]
(APIServer pid=71)     For further information visit https://errors.pydantic.dev/2.12/v/value_error
"""
CORE = """\
(EngineCore_DP0 pid=92) ERROR 11-29 18:51:13 [core.py:843] EngineCore failed to start.
(EngineCore_DP0 pid=92) ERROR 11-29 18:51:13 [core.py:843] Traceback (most recent call last):
(EngineCore_DP0 pid=92) ERROR 11-29 18:51:13 [core.py:843]   File "/x/core.py", line 9, in run
(EngineCore_DP0 pid=92) ERROR 11-29 18:51:13 [core.py:843] ValueError: No available memory for the cache blocks.
(APIServer pid=71) Traceback (most recent call last):
(APIServer pid=71)   File "/x/api_server.py", line 1, in <module>
(APIServer pid=71) RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}
[rank0]:[W1129 18:51:14 ProcessGroupNCCL.cpp:1538] Warning: destroy_process_group() was not called
"""


def test_a_refused_setting_is_told_in_the_words_of_the_check():
    assert last_error(TOO_LONG) == (
        "ValidationError: User-specified max_model_len (212) is greater than the derived max_model_len "
        "(max_position_embeddings=32)."
    )


def test_the_cores_reason_is_told_and_not_that_it_had_one():
    assert last_error(CORE) == "ValueError: No available memory for the cache blocks."


def test_a_log_without_an_exception_gives_its_last_lines_and_never_a_book():
    assert last_error("one\ntwo\n\nthree\nfour\n") == "three | four"
    assert last_error("") == ""
    assert last_error("AssertionError\n") == "AssertionError"
    assert len(last_error("ValueError: " + "x" * 5_000)) == LONGEST_SENTENCE
