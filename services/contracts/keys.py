"""Names of all Redis keys. A job's keys share one hash tag, so that every script uses one slot of a cluster."""

from __future__ import annotations

ACTIVE_JOBS = "jobs:active"
"""Set of the ids of jobs whose groups may be played; see services/ledger/active_jobs.py."""

TRAINER_QUEUE, RUN_SEGMENT = "trainer", "gigpo.trainer.run_segment"
"""Celery's queue that the trainer reads, and the one task in it: train the job of this id."""
WAITING = 9
"""Priority in that queue of a job that waits for its turn, the lowest."""
HANDED_OVER = 0
"""Priority of a job that its trainer hands over, the highest: a job is brought to its end, with the inference replica
that serves it, before the next one begins."""

MESSAGE_HOLDERS = "trainer:holders"
"""Hash delivery tag of a message -> the trainer instance that works on it."""

REPLICAS = "inference:replicas"
"""Hash replica -> JSON `ReplicaStatus`; a replica is live while its `replica_heartbeat` key exists."""

WRITABLE = "api:writable"
"""Key with a time to live: the API writes it to learn whether Redis takes writes."""

QUEUE_PLACES = "api:queue"
"""Hash job -> how many jobs a trainer takes before it, with a time to live; the leading API process writes it."""

ALARMS = "alarms"
"""Hash: the installation's alarms, as `alarms` of a job."""


def spec(job: str) -> str:
    """String: the resolved job spec as JSON."""
    return f"{{{job}}}:spec"


def environment(job: str) -> str:
    """String: the job's `EnvironmentInfo` as JSON, written before the job may start."""
    return f"{{{job}}}:environment"


def base(job: str) -> str:
    """String: folder of the policy's tokenizer and config below shared storage, written before the first group is
    opened."""
    return f"{{{job}}}:base"


def epoch(job: str) -> str:
    """String: fencing number of the job's trainer; only the holder of the newest may move groups."""
    return f"{{{job}}}:epoch"


def ledger(job: str) -> str:
    """Hash: the ledger's counters."""
    return f"{{{job}}}:ledger"


def live(job: str) -> str:
    """Set: ids of groups that are neither consumed nor dropped."""
    return f"{{{job}}}:live"


def group(job: str, group_id: str) -> str:
    """Hash: one group's state."""
    return f"{{{job}}}:group:{group_id}"


def episodes(job: str, group_id: str) -> str:
    """Hash k -> `Episode`."""
    return f"{{{job}}}:group:{group_id}:episodes"


def scores(job: str, group_id: str) -> str:
    """String: the group's `ScoredGroup`."""
    return f"{{{job}}}:group:{group_id}:scores"


def manifests(job: str) -> str:
    """Hash step -> the batch's manifest as JSON: what each optimizer batch since the last checkpoint trained on."""
    return f"{{{job}}}:manifests"


def groups_stream(job: str) -> str:
    """Stream trainer -> rollout of `OpenedGroup`."""
    return f"{{{job}}}:groups"


def episodes_stream(job: str) -> str:
    """Stream rollout -> advantage of `CompleteGroup`."""
    return f"{{{job}}}:episodes"


def scored_stream(job: str) -> str:
    """Stream advantage -> trainer of group ids whose scores are in the ledger."""
    return f"{{{job}}}:scored"


def events_stream(job: str) -> str:
    """Stream -> api of `JobEvent`."""
    return f"{{{job}}}:events"


def warned(job: str) -> str:
    """Set of the topics that the job's user was warned about, of those that are told once."""
    return f"{{{job}}}:warned"


def policy(job: str) -> str:
    """String: the newest `PolicyManifest` as JSON; inference replicas follow it."""
    return f"{{{job}}}:policy"


def policy_acks(job: str) -> str:
    """Hash replica -> JSON `PolicyAck` of the version it serves."""
    return f"{{{job}}}:policy:acks"


def policy_refusals(job: str) -> str:
    """Hash replica -> JSON `PolicyRefusal`: the version that it could not serve, and why."""
    return f"{{{job}}}:policy:refusals"


def troubles(job: str) -> str:
    """Hash cause -> how often it happened; see services/ledger/warnings.py."""
    return f"{{{job}}}:troubles"


def last_trouble(job: str) -> str:
    """String: JSON [Unix seconds, the newest cause]."""
    return f"{{{job}}}:troubles:last"


def playing_refusals(job: str) -> str:
    """Hash rollout worker -> why it can never play the job."""
    return f"{{{job}}}:playing:refusals"


def plays(job: str) -> str:
    """List api -> rollout of `OpenedGroup`: to be played beside the job's groups because somebody wants to watch. It
    expires."""
    return f"{{{job}}}:plays"


def watch(job: str, watch_id: str) -> str:
    """Stream rollout -> api of `services.contracts.watching`, one episode's steps; it is there while it is watched."""
    return f"{{{job}}}:watch:{watch_id}"


def watched(job: str) -> str:
    """String: id of the watch that is told what the job's evaluation plays. It expires."""
    return f"{{{job}}}:watched"


def open_sessions(job: str) -> str:
    """Sorted set rollout -> api: ids of sessions that wait for an outside agent, by the time when they were opened."""
    return f"{{{job}}}:sessions"


def session(job: str, session_id: str) -> str:
    """String rollout -> api: a `SessionRecord` as JSON. It expires where its worker does not renew it."""
    return f"{{{job}}}:session:{session_id}"


def takes(job: str) -> str:
    """Hash: how often trainers took the job up in a row without anything new, and the position they found."""
    return f"{{{job}}}:takes"


def alarms(job: str) -> str:
    """Hash cause -> JSON `RaisedAlarm`: the job's alarms that are not over."""
    return f"{{{job}}}:alarms"


def control(job: str) -> str:
    """String: what the user wants of a running job, `run`, `pause` or `cancel`; checked at every step boundary."""
    return f"{{{job}}}:control"


def deleted(job: str) -> str:
    """String with a time to live: the job was deleted; a trainer that still gets a message of it does nothing."""
    return f"{{{job}}}:deleted"


def requests_stream(replica: str) -> str:
    """Stream rollout -> inference of `GenerateRequest`."""
    return f"{{inference:{replica}}}:requests"


def replies_stream(worker: str) -> str:
    """Stream inference -> rollout of `GenerateReply`."""
    return f"{{rollout:{worker}}}:replies"


def calls_stream(worker: str) -> str:
    """Stream api -> rollout of `agents.Asked`: calls of the outside agents whose sessions a worker holds."""
    return f"{{rollout:{worker}}}:calls"


def answers_stream(instance: str) -> str:
    """Stream rollout -> api of `agents.Answered`, to one API process."""
    return f"{{api:{instance}}}:answers"


def replica_heartbeat(replica: str) -> str:
    """Key with a time to live: the replica is alive."""
    return f"{{inference:{replica}}}:alive"


def adopter(replica: str) -> str:
    """String with a time to live: the replica that moves the requests of a dead one."""
    return f"{{inference:{replica}}}:adopter"


def service_heartbeat(service: str, instance: str) -> str:
    """Key with a time to live: the instance is alive; its value is a `Heartbeat` as JSON."""
    return f"services:alive:{service}:{instance}"


LASTING = (
    spec,
    environment,
    base,
    epoch,
    ledger,
    live,
    manifests,
    groups_stream,
    episodes_stream,
    scored_stream,
    events_stream,
    warned,
    policy,
    policy_acks,
    policy_refusals,
    troubles,
    last_trouble,
    playing_refusals,
    open_sessions,
    takes,
    alarms,
    control,
)
"""Every key of a job that stays when the job has ended; those of its groups go with the groups."""
