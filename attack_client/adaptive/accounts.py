"""Several accounts splitting one attack: limits and monitors look at one account at a time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import ClassVar, get_args

from attack_client.adaptive.contract import Asking, Harvest, Run
from attack_client.adaptive.shared_victim import PATIENCE_S, SharedVictim, Split
from attack_client.contract import Oracle, Pool
from attack_client.errors import AdaptationError
from attack_client.http_victim import HttpVictim
from attack_client.retry import RetryPolicy

__all__ = ["PASSING_ON", "Accounts"]

PASSING_ON = RetryPolicy(statuses=RetryPolicy().statuses - {429})
"""An account that is over its limit does not wait: another one asks."""


class Accounts(Asking):
    """The attack as it is, under the keys of a file: one per line, ``#`` begins a comment.

    Which images are asked about does not change, so a theft may go on under more or other
    accounts. No key is ever printed or recorded.

    Args:
        file: where the keys are; at least two.
        split: ``even`` or ``blocks``, see ``SharedVictim``.
    """

    kind: ClassVar[str] = "accounts"
    untold: ClassVar[frozenset[str]] = frozenset({"file"})

    def __init__(self, *, file: str, split: Split = "even") -> None:
        if split not in get_args(Split):
            raise ValueError(f"split must be one of {', '.join(get_args(Split))}, not {split!r}")
        self._file = Path(str(file))
        self.split: Split = split

    def keys(self) -> tuple[str, ...]:
        """The keys of the file.

        Raises:
            AdaptationError: it cannot be read, or holds fewer than two keys, or one twice. The
                sentence shows none.
        """
        try:
            lines = self._file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise AdaptationError(f"{self.kind}: cannot read {self._file}") from error
        keys = tuple(filter(None, (line.partition("#")[0].strip() for line in lines)))
        if len(keys) < 2 or len(set(keys)) < len(keys):
            raise AdaptationError(
                f"{self.kind}: {self._file} must hold at least two different keys, one per line"
            )
        return keys

    def check(self, budget: int, pool: int) -> None:
        """Refuse a file that cannot be used."""
        del budget, pool
        self.keys()

    @asynccontextmanager
    async def open(
        self, victim: Callable[[str], HttpVictim], *, patience_s: float | None = None
    ) -> AsyncIterator[SharedVictim]:
        """All accounts at once.

        Args:
            victim: the victim under a key, not yet entered.
            patience_s: of ``SharedVictim``; None is ``PATIENCE_S``.

        Raises:
            AttackError: a key is refused; says which by its number in the file.
        """
        async with AsyncExitStack() as stack:
            opened = []
            keys = self.keys()
            for number, key in enumerate(keys, start=1):
                try:
                    opened.append(await stack.enter_async_context(victim(key)))
                except Exception as error:
                    error.args = (f"account {number} of {len(keys)}: {error}",)
                    raise
            patience = PATIENCE_S if patience_s is None else patience_s
            yield SharedVictim(opened, split=self.split, patience_s=patience)

    async def run(self, attack: Run, oracle: Oracle, pool: Pool) -> None:
        """Let the attack ask: who asks is the victim's side of the matter."""
        await attack(oracle, pool)

    def gather(self, harvest: Harvest) -> Harvest:
        """As it is."""
        return harvest
