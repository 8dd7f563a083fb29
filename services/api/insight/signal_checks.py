"""Checks that a batch has a learning signal: groups, states, replies and prompts. Pure functions."""

from __future__ import annotations

from collections import Counter

from services.api.insight.anchor_counter import Met, counts_steps, later_visits_met, nearest_anchors
from services.api.insight.evidence import Evidence, figure, finding
from services.contracts.algorithm import STEP_ESTIMATORS
from services.contracts.arrays import unpack_float64
from services.contracts.rest.insight import Finding
from services.contracts.user_files import reward_label

MOST_SILENT = 0.5
"""Share of groups without any advantage: half of what is played teaches nothing then."""
FEW_MET = 0.1
"""Share of later steps whose state was met again: below it the step level compares next to nothing."""
MET_WITHOUT_NUMBERS = 0.3
"""The same with all numbers masked: where it rises so far, the numbers are what keeps states apart."""
LOST_BY_COUNTING = 0.1
"""Share of later steps whose state would be met again without a number that counts the steps."""
ALL_INVALID, MANY_INVALID = 0.9, 0.3
MANY_CUT_REPLIES = 0.3
MANY_CUT_PROMPTS = 0.05
MOST_OUT_OF_TURNS = 0.8
TINY = 1e-9
"""A smaller advantage is the rounding of a zero."""


def reward_never_varies(evidence: Evidence) -> Finding | None:
    """A reward function of the user's that has given every reply the same since the job began."""
    if not evidence.own_functions or len(set(evidence.values("return_mean"))) != 1 or len(evidence.metrics) < 2:
        return None
    replies = [step for step in evidence.steps if step.rewards]
    if len({step.reward for step in replies}) > 1:
        return None
    names = " and ".join(reward_label(name) for name in evidence.own_functions)
    reward = evidence.values("return_mean")[0]
    frequent = Counter(step.action for step in replies).most_common(3)
    return finding(
        "reward_never_varies",
        "problem",
        "Every reply gets the same reward",
        [
            figure("return_mean", reward, f"reward of every reply in {len(evidence.metrics)} batches"),
            *(figure(f"reply {text[:80]!r}", times / len(replies), "share of replies") for text, times in frequent),
        ],
        meaning=f"{names} tells no reply from another, so groups are equal and nothing is learned.",
        advice=_for_constant_rewards(names, scratch=evidence.setting("model.scratch") is not None),
    )


def _for_constant_rewards(names: str, *, scratch: bool) -> str:
    call = f"Call {names} with one of these replies: it should give part of its reward for a part of what it wants."
    if not scratch:
        return call
    return (
        f"{call} A policy from scratch can say only the words of its own rows: put every word that a good reply needs "
        "into a column of the rows, or give the job a `model`."
    )


def equal_groups(evidence: Evidence) -> Finding | None:
    """Groups without any advantage, in a job that has not learned its tasks yet."""
    silent = [episodes for scored, episodes in evidence.groups if not any(_sizes(scored.advantage))]
    share = len(silent) / len(evidence.groups) if evidence.groups else _silent_steps(evidence)
    if share is None or share <= MOST_SILENT or evidence.has_learned:
        return None
    lost = sum(not any(one.won for one in episodes) for episodes in silent)
    won = sum(all(one.won for one in episodes) for episodes in silent)
    what = "of groups" if evidence.groups else "of steps"
    figures = [
        figure("no_advantage_share", share, f"share {what} whose advantage is 0 everywhere; limit {MOST_SILENT}")
    ]
    if silent and evidence.judges_success:
        figures.append(figure("of_these_all_lost", lost / len(silent), "share of these groups that no episode won"))
        figures.append(figure("of_these_all_won", won / len(silent), "share of these groups that every episode won"))
    return finding(
        "equal_groups",
        "problem",
        "Most groups are equal",
        figures,
        meaning=f"{share:.0%} {what} have no advantage: their episodes ended alike, so they give no gradient.",
        advice=_for_equal_groups(lost, won, len(silent) if evidence.judges_success else 0, evidence.first_lesson),
    )


def _for_equal_groups(lost: int, won: int, silent: int, first_lesson: str) -> str:
    if silent and lost / silent > 0.5:
        return (
            f"No episode of these groups wins: raise num_generations, begin with easier tasks or {first_lesson}, or "
            "let the environment reward steps on the way."
        )
    if silent and won / silent > 0.5:
        return "Every episode of these groups wins: give the job harder tasks, or set dynamic_sample: true."
    return "Raise num_generations or temperature, or set dynamic_sample: true, which replaces equal groups."


def _sizes(advantage: bytes) -> list[bool]:
    return [abs(one) > TINY for one in unpack_float64(advantage)]


def _silent_steps(evidence: Evidence) -> float | None:
    trained, played = evidence.recent("trained_rows"), evidence.recent("env_steps")
    return None if trained is None or not played else max(1 - trained / played, 0.0)


def anchors_hold_a_counter(evidence: Evidence) -> Finding | None:
    """States that would be met again if their texts held no numbers."""
    if evidence.setting("algorithm.advantage_estimator") not in STEP_ESTIMATORS:
        return None
    met = later_visits_met(evidence.groups)
    if met is None or not (_numbers_hide_states(met) or _steps_are_counted(evidence, met)):
        return None
    nearest = nearest_anchors(evidence.groups)
    texts = [] if nearest is None else nearest.figures()
    return finding(
        "anchors_hold_a_counter",
        "problem",
        "Anchors hold a counter",
        [
            figure("met_again", met.as_they_are, "share of later steps whose state was met again"),
            figure("met_without_numbers", met.without_numbers, "the same, all numbers in the anchors masked"),
            *texts,
        ],
        meaning="Equal states have different anchors because a number in the text changes with every step, so the "
        "step level has nothing to compare.",
        advice="Give the environment an anchor without that number (a step counter, a time, an id): "
        "`Observation(anchor=...)`.",
    )


def _numbers_hide_states(met: Met) -> bool:
    """Next to no state is met again, and many would be without their numbers: ids, times."""
    return met.as_they_are < FEW_MET and met.without_numbers >= MET_WITHOUT_NUMBERS


def _steps_are_counted(evidence: Evidence, met: Met) -> bool:
    """A number moves in one direction with every step, and states are lost by it."""
    return met.without_numbers - met.as_they_are >= LOST_BY_COUNTING and counts_steps(evidence.groups)


def states_never_recur(evidence: Evidence) -> Finding | None:
    """A step-level estimator whose later states are hardly ever met twice, numbers or not."""
    if evidence.setting("algorithm.advantage_estimator") not in STEP_ESTIMATORS:
        return None
    met = later_visits_met(evidence.groups)
    if met is None or met.as_they_are >= FEW_MET or anchors_hold_a_counter(evidence) is not None:
        return None
    nearest = nearest_anchors(evidence.groups)
    return finding(
        "states_never_recur",
        "warning",
        "States are seldom met again",
        [
            figure("met_again", met.as_they_are, f"share of later steps whose state was met again; limit {FEW_MET}"),
            *([] if nearest is None else nearest.figures()),
        ],
        meaning="Episodes of a group go through different states, so the step level adds next to nothing to the "
        "episode level.",
        advice="Remove details that do not affect the decision from the anchor, raise num_generations, or use grpo.",
    )


def invalid_actions(evidence: Evidence) -> Finding | None:
    """Replies that are no action of the environment."""
    share = evidence.recent("invalid_share")
    if share is None or share < MANY_INVALID:
        return None
    steps = list(evidence.steps)
    frequent = Counter(step.action for step in steps if not step.action_valid).most_common(3)
    return finding(
        "invalid_actions",
        "problem" if share >= ALL_INVALID else "warning",
        "Nearly all actions are invalid" if share >= ALL_INVALID else "Many actions are invalid",
        [
            figure("invalid_share", share, f"share of steps, newest batches; limit {MANY_INVALID}"),
            *(figure(f"action {action[:80]!r}", times / len(steps), "share of steps") for action, times in frequent),
        ],
        meaning=f"{share:.0%} of the replies are not actions of the environment, so most steps change nothing.",
        advice=f"Look at the replies under Rollouts. {evidence.first_lesson.capitalize()}, a prompt_template that "
        "names the form of a reply, or a larger max_completion_length helps; invalid_action_penalty teaches the form. "
        "With guided_decoding: admissible_actions the policy can say nothing else.",
    )


def replies_cut(evidence: Evidence) -> Finding | None:
    """Replies that end at max_completion_length instead of by themselves."""
    steps = [step for step in evidence.steps if not step.action_valid]
    total = sum(1 for _ in evidence.steps)
    cut = sum(step.finish_reason == "length" for step in steps)
    if not total or cut / total < MANY_CUT_REPLIES:
        return None
    longest = evidence.setting("rollout.max_completion_length", 0)
    return finding(
        "replies_cut",
        "problem",
        "Replies are cut",
        [
            figure("cut_replies", cut / total, f"share of steps, cut and invalid; limit {MANY_CUT_REPLIES}"),
            figure("max_completion_length", float(longest), "tokens"),
        ],
        meaning="Replies are cut at max_completion_length before they name their action.",
        advice="Raise max_completion_length, or ask in the system message for shorter thoughts.",
    )


def prompts_cut(evidence: Evidence) -> Finding | None:
    """Observations that do not fit into the prompt."""
    share = evidence.recent("cut_prompt_share")
    if share is None or share < MANY_CUT_PROMPTS:
        return None
    return finding(
        "prompts_cut",
        "warning",
        "Prompts are cut",
        [
            figure("cut_prompt_share", share, f"share of steps, newest batches; limit {MANY_CUT_PROMPTS}"),
            figure("max_prompt_tokens", float(evidence.setting("environment.max_prompt_tokens", 0)), "tokens"),
        ],
        meaning="The policy sees only the beginning of these observations and may miss the part that matters.",
        advice="Raise max_prompt_tokens, or lower history_length.",
    )


def out_of_turns(evidence: Evidence) -> Finding | None:
    """Episodes that end at the horizon, in a job that wins little."""
    episodes, success = list(evidence.episodes), evidence.recent("success") or 0.0
    turns = int(evidence.setting("environment.max_turns", 0))
    share = sum(one.truncated for one in episodes) / len(episodes) if episodes else 0.0
    if turns <= 1 or share < MOST_OUT_OF_TURNS or success >= 0.1 or len(evidence.metrics) < 10:
        return None
    return finding(
        "out_of_turns",
        "warning",
        "Episodes run out of turns",
        [
            figure("truncated", share, f"share of stored episodes; limit {MOST_OUT_OF_TURNS}"),
            figure("success", success, "share of episodes, newest batches"),
            figure("max_turns", float(turns), "steps"),
        ],
        meaning="Nearly every episode ends at max_turns and nearly none wins, so a win may need more steps.",
        advice="Raise max_turns, or begin with tasks that need fewer steps.",
    )


SIGNAL_CHECKS = (
    reward_never_varies,
    equal_groups,
    anchors_hold_a_counter,
    states_never_recur,
    invalid_actions,
    replies_cut,
    prompts_cut,
    out_of_turns,
)
