"""`POST /inference/v1/generate_batch`: many token prompts in one request, each with a sampling seed of its own.

vLLM's own routes take one prompt per request, or many that share one seed; for prompts of tens of tokens HTTP then
costs more than sampling. This route calls the same engine client for each prompt. Its path starts with `/inference`, so
vLLM's API key guards it. Bodies are msgpack:

    request   {"temperature": float, "max_tokens": int, "stop_token_ids": [int], "top_k": int, "top_p": float,
               "min_p": float, "stop_words": [str], "items": [[prompt int32 LE, seed, [reply int32 LE, ...]]],
               "adapter": null or [version, folder]}
    response  one frame after another as prompts finish, each a 4-byte little-endian length and a msgpack list of
              [index, response int32 LE, logprobs float32 LE, [[version, start, end]], finish_reason, error, kept]

`kept` has, where `top_k` is not 0, the ids that each of the R tokens could have been, as int32 LE: R numbers of ids,
then the ids, ascending for each. The token that stops is part of the response: one of `stop_token_ids`, or the one that
completes one of `stop_words`; nothing else stops. `finish_reason` is vLLM's (`stop`, `length`,
`abort`), or with a sentence in `error`: `refused`, the prompt is not one for this model, or `failed`.

`GET /inference/v1/pulse` is answered once the engine's own loop has turned, between two of its steps: 200 with a text
that changes whenever a token was sampled or a prompt was finished, or 503 with a sentence when the engine is dead. A
hung engine behind a live HTTP loop leaves it unanswered.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import struct
from argparse import Namespace
from array import array
from collections.abc import AsyncIterator
from dataclasses import dataclass

import msgspec
from fastapi import FastAPI, Request
from fastapi.responses import Response, StreamingResponse
from starlette.datastructures import State
from vllm.engine.protocol import EngineClient
from vllm.exceptions import VLLMClientError
from vllm.inputs import tokens_input
from vllm.logprobs import FlatLogprobs
from vllm.lora.request import LoRARequest
from vllm.outputs import RequestOutput
from vllm.sampling_params import RequestOutputKind, SamplingParams

from gigpo_vllm.choices import CHOICES
from gigpo_vllm.stop_words import read_as_written
from gigpo_vllm.truncation import KEEP

PATH = "/inference/v1/generate_batch"
PULSE_PATH = "/inference/v1/pulse"
DEATH_SEEN_EVERY_S = 0.5
Row = tuple[int, bytes, bytes, list[tuple[str, int, int]], str, str, bytes]


class Batch(msgspec.Struct):
    """The request's body."""

    temperature: float
    max_tokens: int
    stop_token_ids: list[int]
    items: list[tuple[bytes, int, list[bytes]]]
    """Each prompt's ids, its seed, and the replies of which the response must be one; none: any."""
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    stop_words: list[str] = []
    adapter: tuple[int, str] | None = None
    """The LoRA adapter to sample with: its policy version, >= 0, and its folder."""

    @property
    def keeps(self) -> bool:
        """Whether some tokens cannot be sampled."""
        return self.temperature > 0 and self.top_k > 0

    @property
    def lora(self) -> LoRARequest | None:
        """Each version has a name of its own: what a name has loaded or cached once is served for ever."""
        if self.adapter is None:
            return None
        version, folder = self.adapter
        return LoRARequest(f"version-{version}", version + 1, folder)


class BatchGenerate:
    """vLLM endpoint plugin: the two routes and nothing else."""

    name = "gigpo_batch"
    required_tasks = ("generate",)

    def attach_router(self, app: FastAPI) -> None:
        app.add_api_route(PATH, serve_batch, methods=["POST"], response_model=None)
        app.add_api_route(PULSE_PATH, serve_pulse, methods=["GET"], response_model=None)

    async def init_state(self, engine_client: EngineClient | None, state: State, args: Namespace) -> None:
        """The route uses `state.engine_client`, which vLLM has set."""


_decoder = msgspec.msgpack.Decoder(Batch)
_encoder = msgspec.msgpack.Encoder()
_request_number = itertools.count()


@dataclass
class _Done:
    """Counts of this process since its start."""

    prompts: int = 0


_done = _Done()


async def serve_batch(request: Request) -> Response:
    """200 with frames, or 400 with a sentence when the body is none of ours."""
    try:
        batch = _decoder.decode(await request.body())
    except msgspec.MsgspecError as error:
        return Response(str(error), status_code=400, media_type="text/plain")
    if batch.stop_words:
        read_as_written(request.app.state.engine_client)
    return StreamingResponse(_frames(request.app.state.engine_client, batch), media_type="application/x-msgpack")


async def serve_pulse(request: Request) -> Response:
    """Wait for a turn of the engine's loop; see the top of this file."""
    engine = request.app.state.engine_client
    turn = asyncio.create_task(engine.get_weight_version())  # asks the engine's process; it costs nothing there
    try:
        while not turn.done():
            await asyncio.wait({turn}, timeout=DEATH_SEEN_EVERY_S)
            await engine.check_health()  # a dead engine answers nothing any more
        turn.result()
    except Exception as error:  # noqa: BLE001 - whatever it is, this engine does not sample any more
        return Response(f"{type(error).__name__}: {error}", status_code=503, media_type="text/plain")
    finally:
        turn.cancel()
    return Response(_work_done(engine), media_type="text/plain")


def _work_done(engine: EngineClient) -> str:
    """Finished prompts, and tokens of those in flight.

    A prompt's outputs come here step by step and are kept until its end (FINAL_ONLY); having vLLM hand them out step by
    step would cost a turn of this loop for every token.
    """
    in_flight = engine.output_processor.request_states.values()  # type: ignore[attr-defined]
    return f"{_done.prompts} {sum(state.detokenizer.num_output_tokens() for state in in_flight)}"


async def _frames(engine: EngineClient, batch: Batch) -> AsyncIterator[bytes]:
    done: asyncio.Queue[Row] = asyncio.Queue()
    tasks = [asyncio.create_task(_sample(engine, batch, index, done)) for index in range(len(batch.items))]
    try:
        missing = len(tasks)
        while missing:
            rows = [await done.get()]
            while not done.empty():
                rows.append(done.get_nowait())
            missing -= len(rows)
            payload = _encoder.encode(rows)
            yield struct.pack("<I", len(payload)) + payload
    finally:  # the client hung up: sampling for nobody would hold up the others
        for task in tasks:
            task.cancel()


async def _sample(engine: EngineClient, batch: Batch, index: int, done: asyncio.Queue[Row]) -> None:
    prompt, seed, choices = batch.items[index]
    try:
        ids = array("i", prompt).tolist()
        _check(choices, engine.model_config.get_vocab_size())
        outputs = engine.generate(
            tokens_input(ids),
            _sampling(batch, seed, choices, engine.model_config.get_vocab_size()),
            f"gigpo-{next(_request_number)}",
            lora_request=batch.lora,
        )
        async for output in outputs:  # one: FINAL_ONLY
            done.put_nowait(_row(index, output, keeps=batch.keeps))
    except (VLLMClientError, ValueError) as error:
        done.put_nowait((index, b"", b"", [], "refused", str(error), b""))
    except Exception as error:  # noqa: BLE001 - one prompt's failure is that prompt's answer
        done.put_nowait((index, b"", b"", [], "failed", f"{type(error).__name__}: {error}", b""))
    finally:
        _done.prompts += 1


def _check(choices: list[bytes], vocabulary: int) -> None:
    """Raises ValueError: an id beyond the logits would end the engine."""
    for choice in choices:
        if not all(0 <= one < vocabulary for one in array("i", choice)):
            raise ValueError(f"a token id lies outside the vocabulary of {vocabulary}")


def _sampling(batch: Batch, seed: int, choices: list[bytes], vocabulary: int) -> SamplingParams:
    kept = min(batch.top_k, vocabulary) if batch.keeps else 0
    extra = {CHOICES: choices} if choices else {}
    if kept:
        extra[KEEP] = [kept, batch.top_p, batch.min_p]
    return SamplingParams(
        extra_args=extra or None,
        temperature=batch.temperature,
        max_tokens=batch.max_tokens,
        stop_token_ids=batch.stop_token_ids,
        seed=seed,
        ignore_eos=True,
        logprobs=kept,
        stop=batch.stop_words,
        include_stop_str_in_output=True,
        detokenize=bool(batch.stop_words),
        skip_special_tokens=False,
        flat_logprobs=True,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def _row(index: int, final: RequestOutput, *, keeps: bool) -> Row:
    output = final.outputs[0]
    ids, flat = list(output.token_ids), output.logprobs
    logprobs = [flat.logprobs[start] for start in flat.start_indices]  # the sampled token comes first
    spans = [(span.version, span.start, span.end) for span in output.weight_versions or ()]
    return (
        index,
        array("i", ids).tobytes(),
        array("f", logprobs).tobytes(),
        spans,
        str(output.finish_reason),
        "",
        _kept(flat) if keeps else b"",
    )


def _kept(flat: FlatLogprobs) -> bytes:
    """Truncation leaves as many tokens as log-probabilities are asked for, and gives the others none."""
    ids = [
        sorted({flat.token_ids[at] for at in range(start, end) if flat.logprobs[at] > -math.inf})
        for start, end in zip(flat.start_indices, flat.end_indices, strict=True)
    ]
    return array("i", itertools.chain(map(len, ids), itertools.chain.from_iterable(ids))).tobytes()
