"""The objects that helm makes of the chart."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest
import yaml
from pydantic_settings import BaseSettings

from tests.chart import CHART, OWN, SERVICES, helm, needs_helm, overlaid, pod, rendered, template, variables
from tests.chart_cases import AT_THE_TOP, EACH, OF_SERVICES, TOGETHER

pytestmark = needs_helm
EXAMPLES = {path.stem: yaml.safe_load(path.read_text()) for path in sorted((CHART / "examples").glob("*.yaml"))}
OF_EXAMPLES = {"cpu": OWN, "one-gpu": OWN, "many-nodes": {"redis": {"url": "", "secretName": "users"}}}
"""Values that an installer has to add to an example."""
EVERYTHING: dict[str, Any] = {
    "models": {"claimName": "models"},
    "trackers": {"names": "wandb", "secretName": "wandb"},
    "image": {"pullSecrets": ["regcred"]},
    "ingress": {"enabled": True, "host": "gigpo.example.org", "tlsSecretName": "tls", "className": "nginx"},
    "monitoring": {
        "serviceMonitor": {"enabled": True},
        "rules": {"enabled": True},
        "dashboard": {"enabled": True},
        "prometheusUrl": "http://prometheus:9090",
    },
    "services": {name: {"autoscaling": {"enabled": True}, "podLabels": {"team": "a"}} for name in SERVICES},
}
GROUPS = {
    name: {"nodes": 2, "gpu": {"count": 4}, "queueName": "training", "autoscaling": {"enabled": True}}
    for name in ("trainer", "inference")
}
"""Pods of several nodes."""
GROUPS["trainer"]["ranks"] = 8
WAYS = {
    "default": OWN,
    "managed": {},
    "everything": EVERYTHING,
    "groups": overlaid(EVERYTHING, {"services": GROUPS}),
} | {name: overlaid(values, OF_EXAMPLES.get(name, {})) for name, values in EXAMPLES.items()}


def settings(service: str) -> type[BaseSettings]:
    kind: type[BaseSettings] = import_module(f"services.{service}.settings").Settings
    return kind


@pytest.fixture(scope="module", params=sorted(WAYS))
def objects(request: pytest.FixtureRequest) -> Any:
    return rendered(WAYS[request.param])


def test_an_image_with_a_digest_is_pulled_by_it() -> None:
    digest = f"sha256:{'a' * 64}"
    objects = rendered({"image": {"repository": "r.example/gigpo", "tag": "1.2.3", "digests": {"light": digest}}})
    images = {name: pod(objects, name)["containers"][0]["image"] for name in SERVICES}
    light = f"r.example/gigpo-light:1.2.3@{digest}"
    assert [images[name] for name in ("api", "env", "rollout")] == [light] * 3
    assert images["trainer"] == "r.example/gigpo-torch:1.2.3"
    migration = objects["Job", "migrate"]["spec"]["template"]["spec"]["containers"][0]
    assert migration["image"] == light


@pytest.mark.parametrize(("values", "sentence"), TOGETHER, ids=lambda value: value if isinstance(value, str) else "")
def test_values_that_are_wrong_together_are_a_sentence(values: Any, sentence: str) -> None:
    done = helm(values)
    assert done.returncode != 0
    assert sentence in done.stderr


@pytest.mark.parametrize(
    "values",
    [
        *({"services": {"env": {key: values[0]}}} for key, values in EACH.items()),
        *({"services": {service: {key: value}}} for service, key, value in OF_SERVICES),
        *({key: value} for key, value in AT_THE_TOP),
    ],
    ids=str,
)
def test_helm_refuses_what_the_schema_refuses(values: Any) -> None:
    done = helm(values)
    assert done.returncode != 0
    assert "specifications of the schema" in done.stderr


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_reads_every_variable_and_has_those_it_wants(objects: Any, service: str) -> None:
    prefix = str(settings(service).model_config["env_prefix"])
    fields = settings(service).model_fields
    given = {name for name in variables(objects, service) if name.startswith(prefix)}
    assert given <= {f"{prefix}{name}".upper() for name in fields}
    assert {f"{prefix}{name}".upper() for name, field in fields.items() if field.is_required()} <= given


@pytest.mark.parametrize("service", SERVICES)
def test_a_pod_is_confined(objects: Any, service: str) -> None:
    spec = pod(objects, service)
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"]
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not any(spec.get(key) for key in ("hostNetwork", "hostPID", "hostIPC", "initContainers"))
    (container,) = spec["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not any("hostPath" in volume for volume in spec["volumes"])
    assert all(volume["emptyDir"].get("sizeLimit") for volume in spec["volumes"] if "emptyDir" in volume)
    assert objects["ServiceAccount", service]["automountServiceAccountToken"] is False


@pytest.mark.parametrize("service", SERVICES)
def test_every_mount_has_its_volume_and_data_is_only_where_it_is_used(objects: Any, service: str) -> None:
    spec = pod(objects, service)
    mounts = {one["name"]: one for one in spec["containers"][0]["volumeMounts"]}
    assert set(mounts) == {volume["name"] for volume in spec["volumes"]}
    wanted = {"api": False, "trainer": False, "inference": False, "rollout": True}.get(service)
    assert mounts.get("data", {}).get("readOnly", False if "data" in mounts else None) == wanted
    assert all(one.get("readOnly") for name, one in mounts.items() if name in ("models", "api-key"))


def test_env_sees_neither_redis_nor_data_nor_a_secret(objects: Any) -> None:
    text = yaml.safe_dump(pod(objects, "env"))
    assert not any(word in text for word in ("REDIS", "redis", "secret", "/data", "DATABASE"))
    policy = objects.get(("NetworkPolicy", "env"))
    assert policy is None or policy["spec"]["egress"] == []


@pytest.mark.parametrize("service", SERVICES)
def test_probes_ask_the_side_port(objects: Any, service: str) -> None:
    (container,) = pod(objects, service)["containers"]
    paths = {kind: container[kind]["httpGet"] for kind in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert {one["port"] for one in paths.values()} == {"metrics"}
    assert [one["path"] for one in paths.values()] == ["/livez", "/livez", "/readyz"]
    prefix = settings(service).model_config["env_prefix"]
    assert {"name": "metrics", "containerPort": 9100, "protocol": "TCP"} in container["ports"]
    assert variables(objects, service)[f"{prefix}METRICS_PORT"] == "9100"


@pytest.mark.parametrize("service", SERVICES)
def test_a_selector_finds_the_pods_of_its_service(objects: Any, service: str) -> None:
    labels = template(objects, service)["metadata"]["labels"]
    kinds = [kind for kind in ("Deployment", "PodDisruptionBudget") if (kind, service) in objects]
    chosen = [objects[kind, service]["spec"]["selector"]["matchLabels"] for kind in kinds]
    policy = objects.get(("NetworkPolicy", service))
    chosen += [policy["spec"]["podSelector"]["matchLabels"]] if policy else []
    assert chosen
    assert all(one == chosen[0] and one.items() <= labels.items() for one in chosen)


@pytest.mark.parametrize("service", SERVICES)
def test_a_pod_has_time_to_drain(objects: Any, service: str) -> None:
    told = variables(objects, service)
    prefix = settings(service).model_config["env_prefix"]
    grace = pod(objects, service)["terminationGracePeriodSeconds"]
    assert grace > int(told.get(f"{prefix}DRAIN_S", 0))


@pytest.mark.parametrize("service", SERVICES)
def test_a_gpu_is_not_wanted_twice_during_an_upgrade(objects: Any, service: str) -> None:
    limits = pod(objects, service)["containers"][0]["resources"].get("limits", {})
    if ("LeaderWorkerSet", service) in objects:
        rolling = objects["LeaderWorkerSet", service]["spec"]["rolloutStrategy"]["rollingUpdateConfiguration"]
    else:
        strategy = objects["Deployment", service]["spec"]["strategy"]
        rolling = strategy.get("rollingUpdate", {"maxSurge": 0})
        assert (strategy["type"] == "Recreate") != ("rollingUpdate" in strategy)
    assert rolling["maxSurge"] == 0 or not any("gpu" in name for name in limits)


@pytest.mark.parametrize("service", SERVICES)
def test_only_one_hand_is_at_the_number_of_replicas(objects: Any, service: str) -> None:
    scaled = any((kind, service) in objects for kind in ("ScaledObject", "HorizontalPodAutoscaler"))
    workload = objects.get(("Deployment", service)) or objects["LeaderWorkerSet", service]
    assert scaled != ("replicas" in workload["spec"])


@pytest.mark.parametrize(("service", "port"), [("api", 9000), ("env", 6000)])
def test_a_port_is_set_in_one_place(service: str, port: int) -> None:
    made = rendered({"services": {service: {"port": port}}})
    prefix = settings(service).model_config["env_prefix"]
    assert variables(made, service)[f"{prefix}PORT"] == str(port)
    assert {"name": "main", "containerPort": port, "protocol": "TCP"} in pod(made, service)["containers"][0]["ports"]
    assert made["Service", service]["spec"]["ports"][0]["port"] == port
    if service == "env":
        assert variables(made, "rollout")["ROLLOUT_ENV_ADDRESS"] == f"one-gigpo-env:{port}"
        assert variables(made, "api")["API_ENV_ADDRESS"] == f"one-gigpo-env:{port}"
    else:
        (test,) = (one for (kind, _), one in made.items() if kind == "Pod")
        assert {"name": "URL", "value": f"http://one-gigpo-api:{port}"} in test["spec"]["containers"][0]["env"]


def test_the_metrics_port_is_set_in_one_place() -> None:
    made = rendered({"metricsPort": 9300, "monitoring": {"serviceMonitor": {"enabled": True}}})
    assert made["Service", "metrics"]["spec"]["ports"][0]["port"] == 9300
    for service in SERVICES:
        prefix = settings(service).model_config["env_prefix"]
        assert variables(made, service)[f"{prefix}METRICS_PORT"] == "9300"


def test_two_releases_in_one_namespace_have_nothing_in_common() -> None:
    def named(release: str) -> set[str]:
        return {one["metadata"]["name"] for one in rendered(release=release).values()}

    assert not named("a") & named("b")
    selectors = [rendered(release=name)["Deployment", "api"]["spec"]["selector"]["matchLabels"] for name in "ab"]
    assert selectors[0] != selectors[1]


@pytest.mark.parametrize(("release", "name"), [("gigpo", "gigpo-api"), ("my-gigpo", "my-gigpo-api")])
def test_a_release_that_says_gigpo_is_not_prefixed_again(release: str, name: str) -> None:
    assert f"name: {name}\n" in helm({}, release=release).stdout


def test_the_prefix_can_be_given() -> None:
    assert "name: lab-api\n" in helm({"fullnameOverride": "lab"}).stdout


@pytest.mark.parametrize("service", [name for name in SERVICES if name != "env"])
@pytest.mark.parametrize("per_service", [False, True])
def test_the_address_of_redis_comes_from_a_secret(service: str, per_service: bool) -> None:
    made = rendered({"redis": {"url": "", "secretName": "valkey", "perService": per_service}})
    wanted = {"secretKeyRef": {"name": "valkey", "key": service if per_service else "url"}}
    assert variables(made, service)[f"{service.upper()}_REDIS_URL"] == wanted


def test_the_key_is_a_file_and_the_database_a_secret() -> None:
    made = rendered()
    assert variables(made, "api")["API_KEY_FILE"] == "/secrets/api/api-key"
    assert variables(made, "api")["API_DATABASE_URL"] == {"secretKeyRef": {"name": "postgres", "key": "url"}}
    assert "API_KEY" not in variables(made, "api")
    assert not any("DATABASE_URL" in name for service in SERVICES[2:] for name in variables(made, service))


def test_sqlite_never_has_two_pods() -> None:
    made = rendered({"database": {"secretName": "", "sqlite": True}})
    assert made["Deployment", "api"]["spec"]["strategy"] == {"type": "Recreate"}
    assert "API_DATABASE_URL" not in variables(made, "api")


@pytest.mark.parametrize("over", [{"replicas": 2}, {"autoscaling": {"enabled": True}}])
def test_several_api_pods_count_calls_together(over: Any) -> None:
    assert variables(rendered({"services": {"api": over}}), "api")["API_RATE_STORAGE"] == "redis"
    assert "API_RATE_STORAGE" not in variables(rendered(), "api")


@pytest.mark.parametrize(("ranks", "shard"), [(1, 0), (4, 0), (4, 2), (8, 8)])
def test_the_ranks_of_a_trainer_have_a_gpu_each(ranks: int, shard: int) -> None:
    made = rendered({"services": {"trainer": {"ranks": ranks, "shardRanks": shard, "gpu": {"count": ranks}}}})
    told = variables(made, "trainer")
    assert (told["TRAINER_RANKS"], told["TRAINER_SHARD_RANKS"]) == (str(ranks), str(shard))
    assert pod(made, "trainer")["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == ranks


def test_without_a_gpu_none_is_wanted() -> None:
    made = rendered({"services": {"trainer": {"ranks": 2, "gpu": {"count": 0}}}})
    assert pod(made, "trainer")["containers"][0]["resources"]["limits"] == {"memory": "64Gi"}


PLACED = {
    "runtimeClassName": "gvisor",
    "priorityClassName": "high",
    "nodeSelector": {"pool": "a"},
    "tolerations": [{"key": "gpu", "operator": "Exists"}],
    "affinity": {"nodeAffinity": {}},
    "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}],
}


@pytest.mark.parametrize("key", PLACED)
@pytest.mark.parametrize("service", SERVICES)
def test_a_pod_is_placed(service: str, key: str) -> None:
    made = rendered({"services": {service: {key: PLACED[key]}}})
    assert pod(made, service)[key] == PLACED[key]
    assert all(key not in pod(made, other) for other in SERVICES if other != service)


@pytest.mark.parametrize("service", SERVICES)
def test_extras_reach_their_service_alone(service: str) -> None:
    rule = {"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}
    extra = {
        "extraEnv": {"HF_HOME": "/x"},
        "extraEnvFrom": [{"configMapRef": {"name": "c"}}],
        "extraVolumes": [{"name": "x", "emptyDir": {}}],
        "extraVolumeMounts": [{"name": "x", "mountPath": "/x"}],
        "extraEgress": [rule],
        "podLabels": {"kueue.x-k8s.io/queue-name": "q"},
        "podAnnotations": {"a": "b"},
    }
    made = rendered({"services": {service: extra}})
    with_it = [name for name in SERVICES if variables(made, name).get("HF_HOME") == "/x"]
    assert with_it == [service]
    (container,) = pod(made, service)["containers"]
    assert {"name": "x", "mountPath": "/x"} in container["volumeMounts"]
    assert {"configMapRef": {"name": "c"}} in container["envFrom"]
    assert rule in made["NetworkPolicy", service]["spec"]["egress"]
    template = made["Deployment", service]["spec"]["template"]["metadata"]
    assert template["labels"]["kueue.x-k8s.io/queue-name"] == "q"
    assert template["annotations"]["a"] == "b"


def test_a_variable_of_ones_own_wins_over_a_default() -> None:
    made = rendered({"services": {"inference": {"extraEnv": {"INFERENCE_VLLM_GPU_MEMORY": "0.4"}}}})
    assert variables(made, "inference")["INFERENCE_VLLM_GPU_MEMORY"] == "0.4"
