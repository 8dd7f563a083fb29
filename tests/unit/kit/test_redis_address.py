"""Addresses of Redis: what each form means, and one clear sentence for what is none."""

from __future__ import annotations

import pytest
from pydantic import TypeAdapter, ValidationError

from services.kit.broker import broker_settings
from services.kit.redis_address import BrokerUrl, RedisUrl, parse_address


def test_a_server_has_user_password_and_database():
    found = parse_address("redis://rollout:p%40ss@redis.example:6380/3")
    assert (found.kind, found.hosts, found.database, found.tls) == ("server", (("redis.example", 6380),), 3, False)
    assert found.login == {"username": "rollout", "password": "p@ss"}
    assert parse_address("redis://h").hosts == (("h", 6379),)
    assert parse_address("redis://:x@[::1]:7").hosts == (("::1", 7),)
    assert parse_address("redis://:x@h").login == {"password": "x"}


def test_tls_names_its_ca():
    found = parse_address("rediss://h:6379/0?ssl_ca_certs=/etc/ca.pem&ssl_certfile=/c&ssl_keyfile=/k")
    assert found.secured == {
        "ssl_cert_reqs": "required", "ssl_ca_certs": "/etc/ca.pem", "ssl_certfile": "/c", "ssl_keyfile": "/k"
    }  # fmt: skip
    assert parse_address("redis://h").secured == {}


def test_sentinels_know_a_master_by_its_name():
    found = parse_address("redis+sentinel://u:p@a:1,b/main?sentinel_password=s")
    assert (found.kind, found.hosts, found.master) == ("sentinel", (("a", 1), ("b", 26379)), "main")
    assert found.sentinel == {"password": "s"}


def test_a_cluster_has_some_nodes():
    found = parse_address("rediss+cluster://a:1,b:2?ssl_ca_certs=/ca")
    assert (found.kind, found.hosts, found.tls) == ("cluster", (("a", 1), ("b", 2)), True)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", "want an address that begins with one of redis, rediss"),
        ("http://h", "got 'http'"),
        ("redis://", "want one host, got ''"),
        ("redis://a:1,b:2", "want one host, got 'a:1,b:2'"),
        ("redis://h:port", "want host:port, got 'h:port'"),
        ("redis://h:99999", "want host:port"),
        ("redis://h/zero", "want the number of a database, got 'zero'"),
        ("redis+sentinel://h", "want the name of the master"),
        ("redis://h?ssl_ca_certs=/ca", "want nothing behind the question mark, got 'ssl_ca_certs'"),
        ("rediss://h?ssl_cert_reqs=none", "want ssl_ca_certs, ssl_certfile, ssl_keyfile behind"),
        ("redis+cluster://", "want one or more hosts"),
    ],
)
def test_what_is_no_address_is_one_sentence_without_its_password(url, said):
    with pytest.raises(ValueError, match="want") as refused:
        parse_address(url.replace("://", "://u:topsecret@"))
    assert said in str(refused.value)
    assert "topsecret" not in str(refused.value)
    assert "topsecret" not in repr(parse_address("redis://:topsecret@h"))


def test_a_setting_is_checked_when_it_is_read():
    assert TypeAdapter(RedisUrl).validate_python("redis+cluster://h") == "redis+cluster://h"
    assert TypeAdapter(BrokerUrl).validate_python("") == ""
    with pytest.raises(ValidationError, match="Celery cannot use one"):
        TypeAdapter(BrokerUrl).validate_python("redis+cluster://h")


def test_celery_gets_the_same_address_in_its_own_form():
    assert broker_settings("redis://u:p%40@h:1/2", socket_timeout=5) == {
        "broker_url": "redis://u:p%40@h:1/2", "broker_transport_options": {"socket_timeout": 5}
    }  # fmt: skip
    tls = broker_settings("rediss://h?ssl_ca_certs=/ca")
    assert (tls["broker_url"], tls["broker_use_ssl"]["ssl_ca_certs"]) == ("redis://h:6379/0", "/ca")
    watched = broker_settings("redis+sentinel://:p@a:1,b:2/main?sentinel_password=s", visibility_timeout=9)
    assert watched["broker_url"] == "sentinel://:p@a:1/0;sentinel://:p@b:2/0"
    assert watched["broker_transport_options"] == {
        "visibility_timeout": 9, "master_name": "main", "sentinel_kwargs": {"password": "s"}
    }  # fmt: skip
    with pytest.raises(ValueError, match="got a cluster"):
        broker_settings("redis+cluster://h")
