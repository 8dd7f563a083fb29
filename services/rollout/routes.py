"""Chooses a replica for each prompt by load, and keeps an episode where its prefix is in the cache.

Loads are tokens that a replica owes: the prompt's and the most that may be sampled. A worker knows at once what it
asked for itself, and reads every poll what the replica owes to all workers.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Mapping, Sequence
from hashlib import blake2b

from services.contracts.sampling import most_tokens
from services.rollout.ports import Ask

CHOICES = 2
"""Replicas that a new group chooses from. Workers whose figures are old would all choose the idlest of all."""
UNEVEN, PROMPTS_APART = 1.5, 4
"""An episode moves where its replica owes more than UNEVEN times as much as another one and PROMPTS_APART prompts."""
REMEMBERED = 65_536
"""Groups, and episodes, whose place is kept; the oldest is forgotten and chosen anew."""


def tokens_of(ask: Ask) -> int:
    """Load of the prompt; see `most_tokens`."""
    return most_tokens(ask.item, ask.sampling)


def ranked(group_id: str, replicas: Sequence[str]) -> list[str]:
    """The replicas by rendezvous hash; the same order in every worker, and one that goes moves its own groups alone."""

    def weight(replica: str) -> bytes:
        return blake2b(f"{replica}\x1f{group_id}".encode(), digest_size=8).digest()

    return sorted(replicas, key=weight, reverse=True)


class Routes:
    """Places of groups and episodes, and what each replica owes."""

    def __init__(self) -> None:
        self._groups: OrderedDict[str, str] = OrderedDict()
        self._episodes: OrderedDict[str, str] = OrderedDict()
        self._own: Counter[str] = Counter()
        self._others: dict[str, int] = {}

    def load(self, replica: str) -> int:
        """Tokens that the replica owes, as far as this worker knows."""
        return self._own[replica] + self._others.get(replica, 0)

    def read(self, owed: Mapping[str, int]) -> None:
        """Take what each live replica says that it owes to all workers."""
        self._others = {replica: max(0, tokens - self._own[replica]) for replica, tokens in owed.items()}
        self._own = Counter({replica: tokens for replica, tokens in self._own.items() if tokens})

    def asked(self, replica: str, tokens: int) -> None:
        """The replica owes so many tokens more; a negative number: less."""
        self._own[replica] += tokens

    def choose(self, ask: Ask, serving: Sequence[str]) -> str:
        """One of the serving replicas, at least one: the episode's last one unless another one has far less to do."""
        home = self._episodes.get(ask.episode_id) or self._groups.get(ask.group_id)
        if home is None or home not in serving:
            home = min(ranked(ask.group_id, serving)[:CHOICES], key=self.load)
            _keep(self._groups, ask.group_id, home)
        idlest = min(serving, key=self.load)
        if self.load(home) > UNEVEN * self.load(idlest) + PROMPTS_APART * tokens_of(ask):
            home = idlest
        _keep(self._episodes, ask.episode_id, home)
        return home


def _keep(places: OrderedDict[str, str], name: str, replica: str) -> None:
    places[name] = replica
    places.move_to_end(name)
    if len(places) > REMEMBERED:
        places.popitem(last=False)
