"""The chart's switches: network, scaling, monitoring, entry."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from tests.chart import CHART, SERVICES, helm, needs_helm, pod, rendered, variables

pytestmark = needs_helm
SCALED = [name for name in SERVICES if name != "api"]


def peers(made: Any, service: str, port: str | int, way: str) -> list[Any]:
    """Who may come (`ingress`) or where the service may go (`egress`) at `port`."""
    end = {"ingress": "from", "egress": "to"}[way]
    rules = made["NetworkPolicy", service]["spec"][way]
    return [rule.get(end, "anywhere") for rule in rules if port in [one["port"] for one in rule["ports"]]]


def test_nothing_is_open_that_no_policy_opens() -> None:
    spec = rendered()["NetworkPolicy", ""]["spec"]
    assert spec["policyTypes"] == ["Ingress", "Egress"]
    assert "ingress" not in spec
    assert "egress" not in spec
    assert spec["podSelector"]["matchLabels"] == {
        "app.kubernetes.io/name": "gigpo",
        "app.kubernetes.io/instance": "one",
    }


def test_without_policies_there_is_none() -> None:
    assert not [kind for kind, _ in rendered({"networkPolicy": {"enabled": False}}) if kind == "NetworkPolicy"]


@pytest.mark.parametrize("service", SERVICES)
def test_who_reaches_redis_and_the_database(service: str) -> None:
    made = rendered()
    assert bool(peers(made, service, 6379, "egress")) == (service != "env")
    assert bool(peers(made, service, 5432, "egress")) == (service == "api")
    assert bool(peers(made, service, 53, "egress")) == (service != "env")
    assert bool(peers(made, service, "main", "egress")) == (service in ("api", "rollout"))


def test_only_rollout_and_api_reach_env() -> None:
    (found,) = peers(rendered(), "env", "main", "ingress")
    chosen = {one["podSelector"]["matchLabels"]["app.kubernetes.io/component"] for one in found}
    assert chosen == {"api", "rollout"}
    assert all("namespaceSelector" not in one for one in found)


@pytest.mark.parametrize("name", ["redis", "database"])
def test_a_policy_names_the_servers(name: str) -> None:
    to = [{"ipBlock": {"cidr": "10.1.0.0/16"}}]
    made = rendered({"networkPolicy": {name: {"ports": [6379, 7001], "to": to}}})
    assert peers(made, "api", 7001, "egress") == [to]


def test_who_may_call_the_api_and_read_metrics() -> None:
    one = [{"namespaceSelector": {"matchLabels": {"team": "a"}}}]
    made = rendered({"networkPolicy": {"apiFrom": one, "scrapeFrom": one}})
    (found,) = peers(made, "api", "main", "ingress")
    assert found[1:] == one  # the first is the pod of `helm test`
    assert all(peers(made, service, "metrics", "ingress") == [one] for service in SERVICES)


def test_nobody_may_read_metrics_where_nobody_is_named() -> None:
    made = rendered({"networkPolicy": {"scrapeFrom": [], "apiFrom": []}})
    assert not any(peers(made, service, "metrics", "ingress") for service in SERVICES)


@pytest.mark.parametrize("service", SCALED)
def test_keda_asks_prometheus(service: str) -> None:
    scaling = {"enabled": True, "minReplicas": 2, "maxReplicas": 5, "cooldownSeconds": 120}
    over = {"monitoring": {"prometheusUrl": "http://p:9090"}, "services": {service: {"autoscaling": scaling}}}
    made = rendered(over)
    spec = made["ScaledObject", service]["spec"]
    assert (spec["minReplicaCount"], spec["maxReplicaCount"]) == (2, 5)
    assert spec["scaleTargetRef"]["name"] == made["Deployment", service]["metadata"]["name"]
    (trigger,) = spec["triggers"]
    told = yaml.safe_load((CHART / "values.yaml").read_text())["services"][service]["autoscaling"]
    assert trigger["type"] == "prometheus"
    assert trigger["metadata"] == {
        "serverAddress": "http://p:9090",
        "query": told["query"],
        "threshold": told["threshold"],
    }
    assert trigger["metricType"] == told["metricType"]
    assert [name for kind, name in made if kind == "ScaledObject"] == [service]


def test_the_api_scales_by_its_own_load() -> None:
    spec = rendered({"services": {"api": {"autoscaling": {"enabled": True}}}})["HorizontalPodAutoscaler", "api"]["spec"]
    assert (spec["minReplicas"], spec["maxReplicas"]) == (2, 6)
    assert spec["metrics"][0]["resource"]["target"]["averageUtilization"] == 70


def test_a_service_monitor_finds_every_pod_also_those_that_are_not_ready() -> None:
    made = rendered({"monitoring": {"serviceMonitor": {"enabled": True, "labels": {"release": "p"}}}})
    service, monitor = made["Service", "metrics"], made["ServiceMonitor", ""]
    assert service["spec"]["publishNotReadyAddresses"]
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert monitor["metadata"]["labels"]["release"] == "p"
    for name in SERVICES:
        metadata = made["Deployment", name]["spec"]["template"]["metadata"]
        assert service["spec"]["selector"].items() <= metadata["labels"].items()
        assert "prometheus.io/scrape" not in metadata.get("annotations", {}), "it would be scraped twice"


def test_rules_and_dashboard_are_the_files() -> None:
    made = rendered({"monitoring": {"rules": {"enabled": True}, "dashboard": {"enabled": True}}})
    assert made["PrometheusRule", ""]["spec"] == yaml.safe_load((CHART / "monitoring/alerts.yaml").read_text())
    told = json.loads(made["ConfigMap", "dashboard"]["data"]["gigpo.json"])
    assert told == json.loads((CHART / "monitoring/dashboard.json").read_text())


@pytest.mark.parametrize("kind", ["ServiceMonitor", "PrometheusRule", "ConfigMap", "Ingress", "ScaledObject"])
def test_what_wants_an_operator_is_off(kind: str) -> None:
    assert kind not in {kind for kind, _ in rendered()}


def test_an_ingress_speaks_tls() -> None:
    over = {"enabled": True, "host": "gigpo.example.org", "tlsSecretName": "t", "annotations": {"a": "b"}}
    ingress = rendered({"ingress": over})["Ingress", ""]
    assert ingress["spec"]["tls"] == [{"hosts": ["gigpo.example.org"], "secretName": "t"}]
    assert ingress["metadata"]["annotations"] == {"a": "b"}
    assert "ingressClassName" not in ingress["spec"]


@pytest.mark.parametrize("service", SERVICES)
def test_a_budget_can_be_set_and_taken_away(service: str) -> None:
    made = rendered({"services": {service: {"podDisruptionBudget": {"maxUnavailable": "25%"}}}})
    assert made["PodDisruptionBudget", service]["spec"]["maxUnavailable"] == "25%"
    made = rendered({"services": {service: {"podDisruptionBudget": {"enabled": False}}}})
    assert ("PodDisruptionBudget", service) not in made


@pytest.mark.parametrize("service", SERVICES)
def test_grace_is_the_sum_of_its_parts(service: str) -> None:
    made = rendered({"services": {service: {"preStopSeconds": 7, "drainSeconds": 100}}})
    assert pod(made, service)["terminationGracePeriodSeconds"] == 127
    assert pod(made, service)["containers"][0]["lifecycle"]["preStop"]["exec"]["command"] == ["sleep", "7"]


@pytest.mark.parametrize("service", SERVICES)
def test_replicas_may_be_none(service: str) -> None:
    assert rendered({"services": {service: {"replicas": 0}}})["Deployment", service]["spec"]["replicas"] == 0


def test_accounts_can_come_from_the_namespace() -> None:
    made = rendered({"serviceAccounts": {"create": False}})
    assert not [kind for kind, _ in made if kind == "ServiceAccount"]
    assert all(pod(made, service)["serviceAccountName"] == "default" for service in SERVICES)
    assert all(pod(made, service)["automountServiceAccountToken"] is False for service in SERVICES)


def test_images_are_pulled_with_a_secret_and_a_tag() -> None:
    over = {"repository": "registry.example.org/team/gigpo", "tag": "1.2", "pullSecrets": ["a"], "pullPolicy": "Always"}
    made = rendered({"image": over})
    assert pod(made, "env")["containers"][0]["image"] == "registry.example.org/team/gigpo-light:1.2"
    assert pod(made, "env")["imagePullSecrets"] == [{"name": "a"}]


@pytest.mark.parametrize(
    "url",
    ["redis://u:99@valkey", "redis://valkey/0", "rediss://a:6379?ssl_ca_certs=/x", "redis+cluster://a:6379,b:6379"],
)
def test_redis_at_its_own_port_is_reached(url: str) -> None:
    assert peers(rendered({"redis": {"url": url}}), "rollout", 6379, "egress") == ["anywhere"]


def test_an_old_cluster_is_refused() -> None:
    done = helm({}, "--kube-version", "1.28.0")
    assert done.returncode != 0
    assert "kubeVersion" in done.stderr


def test_rendering_twice_gives_the_same() -> None:
    assert helm({}).stdout == helm({}).stdout


@pytest.mark.parametrize("service", SERVICES)
def test_spans_go_to_the_collector_and_nowhere_without_one(service: str) -> None:
    url = "http://collector.monitoring:4318/v1/traces"
    made = rendered({"tracing": {"url": url, "share": 0.5}})
    name = f"{service.upper()}_TRACES_URL"
    traced = service not in ("api", "env")
    assert variables(made, service).get(name) == (url if traced else None)
    assert bool(peers(made, service, 4318, "egress")) == traced
    assert name not in variables(rendered(), service)
    assert not peers(rendered(), service, 4318, "egress")
