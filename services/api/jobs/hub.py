"""Models of the Hugging Face hub at submission: resolves a name to its current commit and size.

The hub's client is imported at the first use: it takes 0.3 s of processor time, which a start saves.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from services.contracts.references import how_to_get

TIMEOUT_S = 10.0
CONFIG, ADAPTER, INDEX = "config.json", "adapter_config.json", "model.safetensors.index.json"
WANTED = (CONFIG, "tokenizer.json", "tokenizer_config.json")
DESCRIBING = (*WANTED, "generation_config.json", "special_tokens_map.json", "added_tokens.json", "chat_template.jinja")
"""The files that say how a policy is played, a few MB together; `additional_chat_templates/` as well."""


class HubProblem(Exception):
    """The model cannot be had from the hub; the message gives the reason and a substitute."""


@dataclass(frozen=True)
class HubModel:
    """A model at one commit."""

    name: str
    revision: str
    """Hex digits of the commit."""
    parameters: int
    config: dict[str, object]
    files: Mapping[str, bytes] = field(default_factory=dict)
    """Those that describe the model, by name; no weights."""


def hub_model(name: str, revision: str | None) -> HubModel:
    """The model that the name means now. Only its description is fetched.

    Raises:
        HubProblem: there is no such model or revision, it is no model in safetensors, or the hub does not answer.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

    # Base of all errors of the HTTP library that the hub's client speaks with, which differs by its version.
    transport_error: type[BaseException] = HfHubHTTPError.__bases__[0]
    hub = HfApi()
    try:
        told = hub.model_info(name, revision=revision, timeout=TIMEOUT_S, files_metadata=True)
        files = {file.rfilename: file.size or 0 for file in told.siblings or []}
        weights = [file for file in files if file.endswith(".safetensors") and "/" not in file]
        missing = [file for file in WANTED if file not in files] + ["*.safetensors"] * (not weights)
        if ADAPTER in files and not missing:
            raise HubProblem(f"{name} on the hub holds {ADAPTER}; want a whole model without an adapter beside it")
        if missing or not told.sha:
            raise HubProblem(f"{name} on the hub lacks {', '.join(missing)}; want a model with safetensors")
        wanted = [file for file in files if file in (*DESCRIBING, INDEX) or _is_template(file)]
        fetched = _fetched(name, told.sha, wanted)
        if absent := _absent(fetched.pop(INDEX, b"{}"), files):
            raise HubProblem(f"{name} on the hub lacks {absent[0]}, which its {INDEX} names")
        config = json.loads(fetched[CONFIG])
    except GatedRepoError:
        raise HubProblem(f"{name}: want HF_TOKEN of an account that accepted its terms on the hub") from None
    except RevisionNotFoundError:
        raise HubProblem(f"{name} has no revision {revision} on the hub") from None
    except RepositoryNotFoundError:
        raise HubProblem(f"no such model on the hub ({hub.endpoint}), and no such folder: {name}") from None
    except (transport_error, OSError, ValueError) as error:
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise HubProblem(f"the hub ({hub.endpoint}) does not give {name}: {why:.200}; {how_to_get(name)}") from None
    counted = told.safetensors.total if told.safetensors else sum(files[file] for file in weights) // 2
    return HubModel(name, told.sha, counted, config if isinstance(config, dict) else {}, fetched)


def _is_template(file: str) -> bool:
    return file.startswith("additional_chat_templates/") and file.endswith(".jinja")


def _fetched(name: str, revision: str, files: Iterable[str]) -> dict[str, bytes]:
    from huggingface_hub import hf_hub_download

    with TemporaryDirectory() as folder:
        for file in files:
            hf_hub_download(name, file, revision=revision, local_dir=folder, etag_timeout=TIMEOUT_S)
        return {file: (Path(folder) / file).read_bytes() for file in files}


def _absent(index: bytes, files: Mapping[str, int]) -> list[str]:
    """The shards that an index names and the hub does not have. Raises ValueError: it is no index."""
    named = json.loads(index)
    placed = named.get("weight_map", {}) if isinstance(named, dict) else {}
    return sorted({str(file) for file in placed.values()} - files.keys()) if isinstance(placed, dict) else []
