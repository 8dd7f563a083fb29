"""Dead letters: messages that no service could read or finish."""

from __future__ import annotations

from collections.abc import Iterator

from gigpo.client.http.call import Call, get, nothing, reads
from gigpo.client.models import DeadLetter, DeadLetterDetail, RetriedLetter
from gigpo.client.synchronous.base import Calls

_LETTER = "/v1/dead-letters/{letter_id}"


class DeadLetterCalls(Calls):
    """Letters that were set aside. A key sees the letters of its project's jobs, an administrator's key all."""

    def dead_letters(self, *, job_id: str | None = None, limit: int | None = None) -> Iterator[DeadLetter]:
        """Dead letters, the newest first.

        Args:
            job_id: only those of this job's streams.
            limit: at most so many; None: all.
        """
        return self._entries("/v1/dead-letters", "items", DeadLetter, {"job_id": job_id}, limit=limit)

    def dead_letter(self, letter_id: str) -> DeadLetterDetail:
        """One dead letter with its content. Raises NotFound."""
        return self._perform(get(_LETTER, DeadLetterDetail, letter_id=letter_id))

    def retry_dead_letter(self, letter_id: str) -> RetriedLetter:
        """Put the message back into its stream, once.

        Raises:
            NotFound: also when it was retried or dropped already.
            Conflict: nobody would read it, or it was not kept whole.
        """
        names = {"letter_id": letter_id}
        return self._perform(Call("POST", f"{_LETTER}:retry", reads(RetriedLetter), names=names, repeatable=False))

    def drop_dead_letter(self, letter_id: str) -> None:
        """Delete a dead letter for good. Raises NotFound; Conflict while its group waits for it."""
        return self._perform(Call("DELETE", _LETTER, nothing, names={"letter_id": letter_id}))
