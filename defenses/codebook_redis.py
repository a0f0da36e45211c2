"""A codebook that grows with what is asked, in Redis: one for all replicas."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import torch
from torch import Tensor

from defenses.codebook import Words
from defenses.codebook_memory import CAPACITY, checked_capacity, share
from defenses.codebook_words import WordTable
from defenses.errors import OptionError

__all__ = ["RedisCodebook"]

log = logging.getLogger(__name__)

PREFIX = "intaglio:modelguard-s"

TIMEOUT_S = 1.0
"""How long Redis may take, for one reply and for all that a batch asks; the engine stands still."""

PAUSE_S = 5.0
"""How long Redis is left alone after it failed, so that an outage costs one timeout, not one a
batch."""

TRIES = 64
"""Races that may be lost in a row. Every lost one means that somebody else stored a word."""

APPEND = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return -1 end
local held = redis.call('LLEN', KEYS[2])
if held ~= tonumber(ARGV[2]) then return -1 end
local room = tonumber(ARGV[3]) - held
local stored = 0
for place = 4, #ARGV do
  if stored >= room then break end
  redis.call('RPUSH', KEYS[2], ARGV[place])
  stored = stored + 1
end
return stored
"""
"""Appends words unless somebody else has since; atomic, as every script in Redis is."""

FORGET = """
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
"""


class _Foreign(Exception):
    """Redis holds something that no codebook put there."""


class RedisCodebook:
    """Words by class, in one Redis list for each, shared by every replica and kept over restarts.

    Lists are only appended to, so a replica may keep a copy: a word found in the copy is the word
    that Redis would find, and only rows without one ask. Insertion is conditional on the length of
    the list that was searched. A Redis that lost its words begins a new generation; a replica
    learns of that when it next has to ask.

    Args:
        url: ``redis://HOST:PORT/DB`` or ``rediss://`` or ``unix://``, without a password.
        name: what the words are of; codebooks of one name are one codebook.
        capacity: words of all classes together; each class has an equal share.
        password_file: holds the password of Redis.

    Raises:
        OptionError: an option cannot be used.
    """

    stateful = True

    def __init__(
        self,
        url: str,
        *,
        name: str,
        capacity: int = CAPACITY,
        password_file: Path | None = None,
    ) -> None:
        try:
            parts = urlsplit(url)
        except ValueError:  # which quotes the address
            raise OptionError("url", "this is not an address of Redis") from None
        if parts.scheme not in ("redis", "rediss", "unix"):
            # Not the address itself: it may hold a password.
            scheme = parts.scheme
            raise OptionError(
                "url", f"must begin with redis://, rediss:// or unix://, not with {scheme!r}"
            )
        if parts.password or "password=" in parts.query:
            raise OptionError("url", "must not hold a password, for it is logged: password_file")
        self.url = url
        self.capacity = checked_capacity(capacity)
        self.password_file = password_file
        # The braces put all keys of a codebook on one node of a cluster.
        self._place = f"{PREFIX}:{{{name}}}"
        self._lock = threading.Lock()
        self._client: Any = None
        self._generation = b""
        self._table: WordTable | None = None
        self._leave_alone_until = 0.0

    def look_up_or_insert(self, said: Tensor, top: Tensor, epsilon: float) -> Words:
        """See ``Codebook``. While Redis is out of reach, what was copied so far is all there is."""
        here, labels = said.cpu(), top.cpu()
        with self._lock:
            words = self._table_for(here).search(here, labels, epsilon)
            if self._storable(words, labels) and time.monotonic() >= self._leave_alone_until:
                asked = self._asked(here, labels, epsilon)
                # Whatever was copied before it failed is a word too.
                words = asked or self._table_for(here).search(here, labels, epsilon)
        return Words(words.probabilities.to(said.device), words.found.to(said.device))

    def check(self, classes: int) -> None:
        """Refuse to start without Redis.

        Raises:
            OptionError: the client library is not installed, or Redis does not answer.
        """
        del classes
        try:
            self._connected().ping()
        except ImportError:
            raise OptionError(
                "codebook", "redis needs its client library: pip install 'intaglio[redis]'"
            ) from None
        except OSError as error:
            raise OptionError("password_file", f"cannot be read: {error.strerror}") from error
        except UnicodeDecodeError:  # which quotes what it has read
            raise OptionError("password_file", "is not text in UTF-8") from None
        except Exception as error:
            raise OptionError("url", f"Redis at {self.url} does not answer: {error}") from error

    def options(self) -> dict[str, Any]:
        """``codebook``, ``url``, ``capacity`` and, if there is one, ``password_file``."""
        chosen: dict[str, Any] = {"codebook": "redis", "url": self.url, "capacity": self.capacity}
        if self.password_file is not None:
            chosen["password_file"] = str(self.password_file)
        return chosen

    def _connected(self) -> Any:
        if self._client is None:
            import redis
            from redis.backoff import NoBackoff
            from redis.retry import Retry

            password = None
            if self.password_file is not None:
                password = self.password_file.read_text(encoding="utf-8").strip()
            self._client = redis.Redis.from_url(
                self.url,
                password=password,
                socket_timeout=TIMEOUT_S,
                socket_connect_timeout=TIMEOUT_S,
                retry=Retry(NoBackoff(), 0),
            )
        return self._client

    def _asked(self, said: Tensor, labels: Tensor, epsilon: float) -> Words | None:
        """What Redis says; None if it says nothing."""
        from redis.exceptions import RedisError

        try:
            words = self._stored(said, labels, epsilon)
        except (RedisError, OSError, _Foreign) as error:
            if not self._leave_alone_until:
                log.error("the codebook at %s is out of reach: %s", self.url, error)
            self._leave_alone_until = time.monotonic() + PAUSE_S
            return None
        if self._leave_alone_until:
            log.warning("the codebook at %s is in reach again", self.url)
            self._leave_alone_until = 0.0
        return words

    def _stored(self, said: Tensor, labels: Tensor, epsilon: float) -> Words:
        """Look up what others stored meanwhile, then store what is still missing."""
        words = self._table_for(said).search(said, labels, epsilon)
        until = time.monotonic() + TIMEOUT_S
        for _ in range(TRIES):
            if time.monotonic() > until:
                raise TimeoutError(f"it took more than {TIMEOUT_S:g} s for one batch")
            rows = self._storable(words, labels)
            self._catch_up(said, sorted({int(labels[row]) for row in rows}))
            words = self._table_for(said).search(said, labels, epsilon)
            rows = self._storable(words, labels)
            if not rows:
                break
            self._append(said, _apart(said, labels, rows, epsilon))
        return words

    def _storable(self, words: Words, labels: Tensor) -> list[int]:
        """Rows without a word, of classes that may still get one."""
        assert self._table is not None
        most = share(self.capacity, self._table.classes)
        return [
            row
            for row in torch.nonzero(~words.found)[:, 0].tolist()
            if self._table.count(int(labels[row])) < most
        ]

    def _table_for(self, said: Tensor) -> WordTable:
        if self._table is None:
            self._table = WordTable(said.shape[1])
        return self._table

    def _catch_up(self, said: Tensor, classes: Sequence[int]) -> None:
        """Copy what the lists of ``classes`` hold beyond the copies here."""
        client = self._connected()
        current = client.get(f"{self._place}:generation")
        if current is None:
            client.set(f"{self._place}:generation", uuid.uuid4().hex, nx=True)
            current = client.get(f"{self._place}:generation") or b""
        if current != self._generation:
            self._generation, self._table = current, WordTable(said.shape[1])
        table = self._table_for(said)
        pipeline = client.pipeline(transaction=False)
        for label in classes:
            pipeline.llen(self._list(label))
            pipeline.lrange(self._list(label), table.count(label), -1)
        replies = pipeline.execute()
        for label, held, beyond in zip(classes, replies[::2], replies[1::2], strict=True):
            if held < table.count(label):
                log.error("the codebook at %s has lost words, and begins anew", self.url)
                client.eval(FORGET, 1, f"{self._place}:generation", current)
                self._generation, self._table = b"", WordTable(said.shape[1])
                return self._catch_up(said, classes)
            for word in self._decoded(beyond, table.classes):
                table.append(label, word)
        return None

    def _append(self, said: Tensor, rows: dict[int, list[int]]) -> None:
        """Offer the words of ``rows``, by class; what was accepted is copied on the next turn."""
        table = self._table_for(said)
        most = share(self.capacity, table.classes)
        pipeline = self._connected().pipeline(transaction=False)
        for label, chosen in rows.items():
            words = [said[row].numpy().astype("<f4").tobytes() for row in chosen]
            keys = (f"{self._place}:generation", self._list(label))
            held = table.count(label)
            pipeline.eval(APPEND, 2, *keys, self._generation, held, most, *words)
        pipeline.execute()

    def _list(self, label: int) -> str:
        return f"{self._place}:{self._generation.decode('ascii', 'replace')}:{label}"

    def _decoded(self, words: Iterable[bytes], classes: int) -> list[Tensor]:
        found = []
        for word in words:
            if len(word) != 4 * classes:
                raise _Foreign("it holds words of another number of classes")
            found.append(torch.from_numpy(np.frombuffer(word, dtype="<f4").astype(np.float32)))
        return found


def _apart(
    said: Tensor, labels: Tensor, rows: Sequence[int], epsilon: float
) -> dict[int, list[int]]:
    """Those of ``rows`` that no earlier one of their class would answer, by class."""
    chosen: dict[int, list[int]] = {}
    table = WordTable(said.shape[1])
    for row in rows:
        one = slice(row, row + 1)
        if table.search(said[one], labels[one], epsilon).found:
            continue
        table.append(int(labels[row]), said[row])
        chosen.setdefault(int(labels[row]), []).append(row)
    return chosen
