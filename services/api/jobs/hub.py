"""Models of the Hugging Face hub at submission: resolves a name to its current commit and size."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from huggingface_hub import HfApi, hf_hub_download
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

from services.contracts.references import how_to_get

TIMEOUT_S = 10.0
TRANSPORT_ERROR: type[BaseException] = HfHubHTTPError.__bases__[0]
"""Base of all errors of the HTTP library that the hub's client speaks with, which differs by its version."""
WANTED = ("config.json", "tokenizer.json")


class HubProblem(Exception):
    """The model cannot be had from the hub; the message says why, and what else would do."""


@dataclass(frozen=True)
class HubModel:
    """A model at one commit."""

    name: str
    revision: str
    """Hex digits of the commit."""
    parameters: int
    config: dict[str, object]


def hub_model(name: str, revision: str | None) -> HubModel:
    """What the name means now. Only its description is fetched.

    Raises:
        HubProblem: there is no such model or revision, it is no model in safetensors, or the hub does not answer.
    """
    hub = HfApi()
    try:
        told = hub.model_info(name, revision=revision, timeout=TIMEOUT_S, files_metadata=True)
        files = {file.rfilename: file.size or 0 for file in told.siblings or []}
        weights = [file for file in files if file.endswith(".safetensors") and "/" not in file]
        missing = [file for file in WANTED if file not in files] + ["*.safetensors"] * (not weights)
        if missing or not told.sha:
            raise HubProblem(f"{name} on the hub lacks {', '.join(missing)}; want a model with safetensors")
        with TemporaryDirectory() as folder:
            path = hf_hub_download(name, "config.json", revision=told.sha, local_dir=folder, etag_timeout=TIMEOUT_S)
            config = json.loads(Path(path).read_bytes())
    except GatedRepoError:
        raise HubProblem(f"{name} wants its terms accepted on the hub, and HF_TOKEN of whoever did") from None
    except RevisionNotFoundError:
        raise HubProblem(f"{name} has no revision {revision} on the hub") from None
    except RepositoryNotFoundError:
        raise HubProblem(f"no such model on the hub ({hub.endpoint}), and no such folder: {name}") from None
    except (TRANSPORT_ERROR, OSError, ValueError) as error:
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise HubProblem(f"the hub ({hub.endpoint}) does not give {name}: {why:.200}; {how_to_get(name)}") from None
    counted = told.safetensors.total if told.safetensors else sum(files[file] for file in weights) // 2
    return HubModel(name, told.sha, counted, config if isinstance(config, dict) else {})
