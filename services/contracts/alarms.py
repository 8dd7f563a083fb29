"""The alarms: what is watched, from which figure on it is an alarm, what it means, and what to do.

The API raises and clears them; events, REST, dashboard and the table in docs/reliability.md are made from this one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Scope = Literal["job", "installation"]


@dataclass(frozen=True)
class Alarm:
    """One kind of alarm. It is raised once per cause, and cleared when its figure is down again."""

    name: str
    scope: Scope
    title: str
    above: float
    """The figure that is still well."""
    unit: str
    """Unit of the figure."""
    meaning: str
    """One sentence."""
    advice: str
    """The remedy, one or two sentences."""


ALARMS = (
    Alarm(
        "ledger_imbalance", "job", "The ledger does not balance", 0, "groups",
        "The groups opened are not those consumed, dropped and live together, or the ledger cannot be read.",
        "Somebody wrote into the job's keys, or there is a defect: keep the logs and report it; fork the job from its "
        "newest checkpoint.",
    ),
    Alarm(
        "oldest_pending", "job", "A group waits too long", 1, "times the job's batch_timeout_s",
        "The oldest group that waits to be played or scored is older than the job waits for a batch.",
        "Look whether rollout, advantage and inference are alive and whether they have room (`gigpo doctor`, the page "
        "System); add workers, or raise batch_timeout_s where groups take so long.",
    ),
    Alarm(
        "dead_letters", "job", "Messages were set aside", 0, "dead letters",
        "No service could read or finish these messages of the job.",
        "`gigpo dlq list` shows them with their causes; mend the cause, then retry or drop them.",
    ),
    Alarm(
        "livelock", "job", "The job makes no progress", 2, "takes in a row",
        "Trainers take the job up again and again, and nothing new is trained, evaluated or scored.",
        "Look at the trainer's log and the machine's memory; a trainer that is killed reports nothing.",
    ),
    Alarm(
        "infra_share", "job", "Infrastructure drops groups", 0.05, "share of opened groups",
        "These groups failed on every attempt, not because of the policy; hard tasks may be missing from training.",
        "Read the job's warnings for the cause; `gigpo diagnose` has the figures.",
    ),
    Alarm(
        "zero_variance_streak", "job", "Batches teach nothing", 4, "batches in a row",
        "No step of these batches has an advantage, because the episodes of each group ended alike.",
        "`gigpo diagnose` says what helps: more generations, easier tasks, a warm start, or dynamic_sample.",
    ),
    Alarm(
        "inert_step_level", "job", "The step level says nothing", 4, "batches in a row",
        "The estimator compares states, but nearly every state was met once, or one anchor stands for all of them: the "
        "job learns no more than grpo would, or worse.",
        "Look at the page of states: give the environment an anchor that names the state and nothing else "
        "(docs/gigpo.md), raise num_generations, or use grpo.",
    ),
    Alarm(
        "disk_nearly_full", "installation", "The disk is nearly full", 0.95, "share of the disk that is used",
        "When nothing is left, checkpoints are skipped and jobs wait.",
        "Delete checkpoints or jobs that nobody needs (`gigpo checkpoints delete`, `gigpo jobs delete`), or add space.",
    ),
    Alarm(
        "replica_silent", "installation", "A replica sends no heartbeat", 0, "instances",
        "It was killed or hangs, or a service that must be there has no live instance.",
        "Restart it; what it worked on is taken over by others. A replica that was removed on purpose is forgotten "
        "once another one has taken over its requests.",
    ),
)  # fmt: skip
BY_NAME = {alarm.name: alarm for alarm in ALARMS}


def sentence(alarm: Alarm, value: float, detail: str) -> str:
    """The trouble now, e.g. `Messages were set aside: 3 dead letters; limit 0`."""
    return f"{alarm.title}: {detail or f'{value:.4g} {alarm.unit}'}; limit {alarm.above:g}"


def alarm_table() -> str:
    """The alarms as a table in Markdown."""
    rows = [
        f"| `{one.name}` | {one.scope} | more than {one.above:g} {one.unit} | {one.meaning} | {one.advice} |"
        for one in ALARMS
    ]
    return "\n".join(["| alarm | of | raised at | what it means | what to do |", "|---|---|---|---|---|", *rows]) + "\n"
