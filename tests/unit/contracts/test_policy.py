"""Documents of trainer and replicas about a policy version."""

from pathlib import Path

from services.contracts.policy import PolicyAck, PolicyManifest


def test_the_acknowledgement_of_a_replica_of_an_earlier_version_is_read():
    ack = PolicyAck(replica="r1", version=3, engine="vllm", load_s=1.5, pause_s=0.25)
    earlier = ack.model_dump_json()[:-1] + ', "fingerprint": "abcd"}'
    assert PolicyAck.model_validate_json(earlier) == ack


def test_a_manifest_is_read_where_shared_storage_is_now():
    told = PolicyManifest(job_id="j1", version=3, base="/old/data/jobs/j1/base", base_sha="", files={}, engine="vllm",
                          path="/old/data/jobs/j1/policy/v000003", max_model_len=8)  # fmt: skip
    seen = told.seen_at(Path("/new"))
    assert (seen.base, seen.path) == ("/new/jobs/j1/base", "/new/jobs/j1/policy/v000003")
    assert seen.seen_at(Path("/new")) == seen
    assert seen.model_copy(update={"base": told.base, "path": told.path}) == told


def test_a_folder_that_is_not_the_jobs_own_is_not_moved():
    told = PolicyManifest(job_id="j1", version=3, base="/secret/jobs/j2/base", base_sha="", files={}, engine="vllm",
                          path="/etc", max_model_len=8)  # fmt: skip
    assert told.seen_at(Path("/new")) == told
