"""Servers of the chart's own, their secrets, the migration before an upgrade, and groups of several nodes."""

from __future__ import annotations

import shlex
from typing import Any

import pytest

from services.contracts.redis_users import acl_line
from tests.chart import CHART, OWN, SERVICES, needs_helm, overlaid, pod, rendered, template, variables

pytestmark = needs_helm
SERVERS = {"valkey": 6379, "postgresql": 5432}


def secret(made: Any, name: str) -> dict[str, str]:
    found: dict[str, str] = made["Secret", name]["stringData"]
    return found


def test_a_claim_is_all_that_has_to_be_named() -> None:
    made = rendered(OWN)
    key = {"secretName": "one-gigpo-key", "defaultMode": 0o440, "items": [{"key": "api-key", "path": "api-key"}]}
    assert {"name": "api-key", "secret": key} in pod(made, "api")["volumes"]
    assert len(secret(made, "key")["api-key"]) == 40
    assert variables(made, "api")["API_DATABASE_URL"] == {
        "secretKeyRef": {"name": "one-gigpo-postgresql", "key": "url"}
    }


@pytest.mark.parametrize("name", SERVERS)
def test_what_is_managed_is_not_brought(name: str) -> None:
    assert not [kind for kind, found in rendered() if found == name or kind in ("Secret", "StatefulSet")]


def test_every_service_has_its_own_user_of_valkey() -> None:
    made = rendered(OWN)
    told = secret(made, "valkey")
    lines = told["users.acl"].splitlines()
    for service in SERVICES:
        if service == "env":
            assert service not in told
            continue
        password = told[f"password-{service}"]
        assert len(password) == 40
        assert told[service] == f"redis://{service}:{password}@one-gigpo-valkey:6379/0"
        assert acl_line(service, password) in lines, "python -m services.contracts.redis_users"
        wanted = {"secretKeyRef": {"name": "one-gigpo-valkey", "key": service}}
        assert variables(made, service)[f"{service.upper()}_REDIS_URL"] == wanted
    assert "PASSWORD" not in told["users.acl"]
    assert len({value for key, value in told.items() if key.startswith("password-")}) == len(SERVICES)


@pytest.mark.parametrize("name", SERVERS)
def test_a_server_is_confined_and_keeps_what_it_wrote(name: str) -> None:
    made = rendered(overlaid(OWN, {name: {"storage": {"size": "5Gi", "className": "fast"}}}))
    spec = made["StatefulSet", name]["spec"]
    (claim,) = spec["volumeClaimTemplates"]
    assert claim["spec"] == {
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": "fast",
        "resources": {"requests": {"storage": "5Gi"}},
    }
    inside = spec["template"]["spec"]
    assert inside["automountServiceAccountToken"] is False
    assert inside["securityContext"]["runAsNonRoot"]
    (container,) = inside["containers"]
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert {one["name"] for one in container["volumeMounts"]} == {"data", "tmp", "secrets"}
    assert made["Secret", name]["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}


@pytest.mark.parametrize(
    ("name", "callers"), [("valkey", set(SERVICES) - {"env"}), ("postgresql", {"api"})]
)  # fmt: skip
def test_only_those_who_need_a_server_reach_it(name: str, callers: set[str]) -> None:
    made = rendered(OWN)
    (rule,) = made["NetworkPolicy", name]["spec"]["ingress"]
    chosen = [one["podSelector"]["matchLabels"] for one in rule["from"]]
    assert {one["app.kubernetes.io/component"] for one in chosen} == callers
    assert all(one["app.kubernetes.io/instance"] == "one" for one in chosen)
    assert made["NetworkPolicy", name]["spec"]["egress"] == []
    wanted = {
        "to": [{"podSelector": made["StatefulSet", name]["spec"]["selector"]}],
        "ports": [{"port": SERVERS[name], "protocol": "TCP"}],
    }
    for service in SERVICES:
        assert (wanted in made["NetworkPolicy", service]["spec"]["egress"]) == (service in callers)


def test_valkey_loses_nothing_and_evicts_nothing() -> None:
    (container,) = rendered(OWN)["StatefulSet", "valkey"]["spec"]["template"]["spec"]["containers"]
    told = shlex.join(container["command"])
    for option in ("--appendonly yes", "--maxmemory-policy noeviction", "--proto-max-bulk-len 65mb"):
        assert option in told


def test_users_are_those_of_the_contract() -> None:
    lines = (CHART / "files" / "users.acl").read_text().splitlines()
    services = ("advantage", "rollout", "inference", "trainer", "api")
    assert lines[0] == "user default on nopass resetkeys resetchannels -@all +ping"
    assert lines[2:] == [acl_line(service, "PASSWORD") for service in services]


def test_a_managed_database_is_migrated_before_new_pods_start() -> None:
    made = rendered()
    job = made["Job", "migrate"]
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert container["command"] == ["python3", "-m", "services.api.migrate"]
    assert container["env"] == [
        {"name": "API_DATABASE_URL", "valueFrom": {"secretKeyRef": {"name": "postgres", "key": "url"}}}
    ]
    assert container["securityContext"]["readOnlyRootFilesystem"]


@pytest.mark.parametrize("over", [OWN, {"database": {"secretName": "", "sqlite": True}}])
def test_no_hook_waits_for_a_database_that_the_release_brings(over: Any) -> None:
    assert ("Job", "migrate") not in rendered(over)


GROUP = {"nodes": 2, "ranks": 8, "gpu": {"count": 4}}


def test_a_trainer_over_nodes_is_a_group_of_pods() -> None:
    made = rendered({"services": {"trainer": GROUP | {"replicas": 3, "strategy": {"type": "Recreate"}}}})
    assert ("Deployment", "trainer") not in made
    spec = made["LeaderWorkerSet", "trainer"]["spec"]
    assert (spec["replicas"], spec["leaderWorkerTemplate"]["size"]) == (3, 2)
    assert spec["rolloutStrategy"]["rollingUpdateConfiguration"] == {"maxSurge": 0, "maxUnavailable": "100%"}
    leader, worker = (template(made, "trainer", worker=one)["spec"]["containers"][0] for one in (False, True))
    assert leader["command"] == ["python3", "-m", "services.trainer.main"]
    assert worker["command"] == ["python3", "-m", "services.trainer.ranks.node"]
    assert leader["resources"] == worker["resources"]
    assert leader["resources"]["limits"]["nvidia.com/gpu"] == 4
    assert leader["volumeMounts"] == worker["volumeMounts"]
    told = {one["name"]: one.get("value") for one in worker["env"]}
    assert {told[f"TRAINER_{name}"] for name in ("RANKS", "NODES")} == {"8", "2"}
    assert told["TRAINER_NODE"] == "$(LWS_WORKER_INDEX)"
    assert told["TRAINER_RENDEZVOUS"] == "$(LWS_LEADER_ADDRESS):29500"
    assert "readinessProbe" in leader
    assert not {"readinessProbe", "livenessProbe", "startupProbe", "ports"} & set(worker)


def test_an_engine_over_nodes_is_joined_by_ray() -> None:
    made = rendered({"services": {"inference": {"nodes": 2}}})
    leader, worker = (template(made, "inference", worker=one)["spec"]["containers"][0] for one in (False, True))
    assert leader["command"][2].startswith("ray start --head --port=6379 ")
    assert leader["command"][2].endswith("&& exec python3 -m services.inference.main")
    assert worker["command"] == [
        "ray", "start", "--block", "--disable-usage-stats", "--address=$(LWS_LEADER_ADDRESS):6379",
    ]  # fmt: skip
    assert variables(made, "inference")["INFERENCE_VLLM_NODES"] == "2"
    assert made["LeaderWorkerSet", "inference"]["spec"]["startupPolicy"] == "LeaderReady"


@pytest.mark.parametrize(("service", "group"), [("trainer", GROUP), ("inference", {"nodes": 2})])
def test_the_pods_of_a_group_speak_to_each_other_and_scale_together(service: str, group: Any) -> None:
    over = {
        "monitoring": {"prometheusUrl": "http://p:9090"},
        "services": {service: group | {"autoscaling": {"enabled": True}}},
    }
    made = rendered(over)
    mine = [{"podSelector": {"matchLabels": made["NetworkPolicy", service]["spec"]["podSelector"]["matchLabels"]}}]
    policy = made["NetworkPolicy", service]["spec"]
    assert {"from": mine} in policy["ingress"]
    assert {"to": mine} in policy["egress"]
    target = made["ScaledObject", service]["spec"]["scaleTargetRef"]
    assert target["kind"] == "LeaderWorkerSet"
    assert target["name"] == made["LeaderWorkerSet", service]["metadata"]["name"]
    other = "inference" if service == "trainer" else "trainer"
    assert not any("ports" not in rule for rule in made["NetworkPolicy", other]["spec"]["egress"])


@pytest.mark.parametrize("service", SERVICES)
def test_kueue_queues_the_whole_workload(service: str) -> None:
    made = rendered({"services": {service: {"queueName": "training"}}})
    queued = [
        name for (kind, name), one in made.items() if "kueue.x-k8s.io/queue-name" in one["metadata"].get("labels", {})
    ]
    assert queued == [service]
