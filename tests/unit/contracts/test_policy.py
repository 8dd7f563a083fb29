"""What trainer and replicas say of a policy version."""

from services.contracts.policy import PolicyAck


def test_the_acknowledgement_of_a_replica_of_an_earlier_version_is_read():
    ack = PolicyAck(replica="r1", version=3, engine="vllm", load_s=1.5, pause_s=0.25)
    earlier = ack.model_dump_json()[:-1] + ', "fingerprint": "abcd"}'
    assert PolicyAck.model_validate_json(earlier) == ack
