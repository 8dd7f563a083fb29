"""Problems, settings, specs as documents, and the small parts of the feed."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from services.api.artifacts.storage import checkpoint_file, checkpoints, job_folder
from services.api.jobs.submissions import body_sha, new_job_id
from services.api.rest.problems import Problem, bad_spec, not_found
from services.api.settings import Settings
from services.api.sync.feed import as_csv
from services.api.sync.stream_ids import stream_position
from services.contracts.job import parse_spec


def test_a_problem_has_the_fields_of_rfc_9457_and_names_every_field() -> None:
    body = bad_spec([("training.seed", "want a number"), ("", "want a model")]).body()
    assert body == {
        "type": "about:blank",
        "title": body["title"],
        "status": 422,
        "detail": "training.seed: want a number; want a model",
        "errors": [
            {"field": "training.seed", "message": "want a number"},
            {"field": "", "message": "want a model"},
        ],
    }
    assert not_found("job", "x").body()["detail"] == "no job 'x'"


@pytest.mark.parametrize("estimator", ["grpo", "rloo", "gigpo"])
def test_a_resolved_spec_can_be_parsed_again(estimator: str) -> None:
    spec = parse_spec(
        {
            "model": {"scratch": {}},
            "algorithm": {"advantage_estimator": estimator},
            "rollout": {"max_completion_length": 6},
        }
    )
    document = spec.model_dump(mode="json")
    assert document["algorithm"]["gamma"] == 0.95
    assert parse_spec(document) == spec


def settings(**given: object) -> Settings:
    return Settings.model_validate(
        {"redis_url": "redis://x", "data_dir": "/tmp/x", "env_address": "127.0.0.1:1", **given}
    )


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.8.8.8"])
def test_loopback_needs_no_key(host: str) -> None:
    assert settings(host=host).host == host


KEY = "0f6c1d92b7e84a35c1d0e7f2"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "gigpo.example"])
def test_every_other_host_needs_keys(host: str) -> None:
    with pytest.raises(ValidationError, match="set API_KEY or API_KEY_FILE first"):
        settings(host=host)
    assert settings(host=host, key=KEY).keys_wanted
    assert settings(host=host, require_keys=True).keys_wanted
    assert not settings().keys_wanted


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("short", "at least 24 random characters"),
        ("x" * 64, "1 of them distinct"),
        ("changeme-0f6c1d92b7e84a35c1d0", "placeholder"),
        ("${GIGPO_API_KEY}0123456789abcdef", "placeholder"),
        ("my password 0f6c1d92b7e84a35c1", "without spaces"),
        ("", "at least 24"),
    ],
)
def test_a_key_that_can_be_guessed_stops_the_start_and_is_not_repeated(key: str, words: str) -> None:
    with pytest.raises(ValidationError, match=words) as refused:
        settings(key=key)
    assert len(key) < 6 or key not in str(refused.value)


def test_the_first_key_can_stand_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(f"{KEY}\n")
    assert settings(key_file=tmp_path / "key").key_text == KEY
    with pytest.raises(ValidationError, match="cannot be read"):
        settings(key_file=tmp_path / "none")
    with pytest.raises(ValidationError, match="one of the two"):
        settings(key=KEY, key_file=tmp_path / "key")


def test_model_roots_are_apart_from_what_jobs_leave(tmp_path: Path) -> None:
    assert settings(data_dir=tmp_path / "data", model_roots=[tmp_path / "models"]).model_roots
    for root in (tmp_path, tmp_path / "data", tmp_path / "data" / "jobs"):
        with pytest.raises(ValidationError, match="want folders outside API_DATA_DIR"):
            settings(data_dir=tmp_path / "data", model_roots=[root])


def test_trackers_are_named_with_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    for text, names in (("mlflow, wandb", ["mlflow", "wandb"]), ("", [])):
        monkeypatch.setenv("API_TRACKERS", text)
        assert settings().trackers == names
    monkeypatch.setenv("API_TRACKERS", "mlfow")
    with pytest.raises(ValidationError, match="'mlflow', 'wandb' or 'trackio'"):
        settings()


def test_a_rate_that_is_none_is_refused() -> None:
    with pytest.raises(ValidationError, match="want a rate such as"):
        settings(rate_per_key="often")


def test_a_key_is_never_shown() -> None:
    assert KEY not in repr(settings(key=KEY))


def test_sqlite_is_the_default_and_lies_in_the_data_folder(tmp_path: Path) -> None:
    assert settings(data_dir=tmp_path).sql_url == f"sqlite+aiosqlite:///{tmp_path}/platform.sqlite"
    for url in ("postgresql://u:secret@db/x", "postgresql+asyncpg://u:secret@db/x"):
        assert settings(database_url=url).sql_url == "postgresql+asyncpg://u:secret@db/x"
        assert "secret" not in repr(settings(database_url=url))


def test_job_ids_are_distinct_and_sort_by_time() -> None:
    ids = [new_job_id() for _ in range(100)]
    assert len(set(ids)) == 100
    assert [one[:12] for one in ids] == sorted(one[:12] for one in ids)


@given(st.dictionaries(st.text(), st.integers() | st.text(), max_size=5))
def test_the_order_of_keys_does_not_make_another_body(body: dict[str, object]) -> None:
    assert body_sha(dict(reversed(body.items()))) == body_sha(body)
    assert body_sha({**body, "one more": 1}) != body_sha({**body, "one more": 2})


@given(st.integers(0, 2**62), st.integers(0, 2**30))
def test_stream_positions_compare_as_the_stream_orders_them(ms: int, seq: int) -> None:
    assert stream_position(f"{ms}-{seq}") == (ms, seq)
    assert stream_position(f"{ms}-{seq}") < stream_position(f"{ms}-{seq + 1}") < stream_position(f"{ms + 1}-0")


@pytest.mark.parametrize("text", ["", "1", "-", "1-", "-1", "a-b", "1-2-3", "+1-0", "1.0-0"])
def test_what_is_no_stream_id_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="want a stream id"):
        stream_position(text)


def test_csv_has_the_batch_first_and_empty_cells_for_what_is_missing() -> None:
    table = as_csv([{"at_unix_s": 1.0, "batch": 0, "loss": 0.5}, {"at_unix_s": 2.0, "batch": 1, "kl": 0.1}])
    assert table == "batch,at_unix_s,loss,kl\n0,1.0,0.5,\n1,2.0,,0.1\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    final = tmp_path / "jobs" / "j1" / "final"
    final.mkdir(parents=True)
    (final / "config.json").write_text("{}")
    (final / "model.safetensors").write_bytes(b"weights")
    (final / ".hidden").write_text("x")
    (tmp_path / "secret").write_text("secret")
    (final / "link").symlink_to(tmp_path / "secret")
    return job_folder(tmp_path, "j1")


def test_a_checkpoint_shows_its_plain_files_only(folder: Path) -> None:
    (final,) = checkpoints(folder)
    assert (final.name, final.final) == ("final", True)
    assert [(file.name, file.size_bytes) for file in final.files] == [("config.json", 2), ("model.safetensors", 7)]


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("final", "../../../secret"),
        ("final", "link"),
        ("final", ".hidden"),
        ("final", "."),
        ("final", ""),
        ("..", "final"),
        ("../../j1/final", "config.json"),
        ("final/../final", "config.json"),
    ],
)
def test_no_name_leads_out_of_a_checkpoint(folder: Path, name: str, file: str) -> None:
    with pytest.raises(Problem) as refused:
        checkpoint_file(folder, name, file)
    assert refused.value.status == 404


@pytest.mark.parametrize("job", ["..", "../x", "a/b", "", ".hidden"])
def test_no_job_id_leads_out_of_the_jobs_folder(tmp_path: Path, job: str) -> None:
    with pytest.raises(Problem):
        job_folder(tmp_path, job)
