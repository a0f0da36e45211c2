"""What is served at one moment. A reload puts another catalogue in the place of this one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from server.errors import NotFound
from server.served import ServedModel
from server.settings import ModelSettings, Settings
from server.settings_sections import PUBLIC

__all__ = ["Catalogue", "Entry", "Limits"]


@dataclass(frozen=True, slots=True)
class Limits:
    """What one model may take of the server.

    Attributes:
        queue_samples: samples of it that may wait or be computed at a time.
        max_request_samples: images in one request.
        deadline_s: the longest that a request may wait for its answer.
    """

    queue_samples: int
    max_request_samples: int
    deadline_s: float


@dataclass(frozen=True, slots=True)
class Entry:
    """What is served under one name.

    Attributes:
        name: served name.
        versions: who answers, by version (oldest first) and tier; ``public`` is one of the tiers.
        default: the version of requests that name none.
        limits: of all its versions and tiers together.
    """

    name: str
    versions: Mapping[str, Mapping[str, ServedModel]]
    default: str
    limits: Limits

    @classmethod
    def of(cls, name: str, models: Iterable[ServedModel], settings: Settings) -> Entry:
        """What ``settings`` say of ``name``, and ``models``, oldest version first, at least one."""
        versions: dict[str, dict[str, ServedModel]] = {}
        for model in models:
            versions.setdefault(model.version, {})[model.tier] = model
        wanted = settings.models.get(name, ModelSettings())
        limits = Limits(
            queue_samples=wanted.limits.queue_samples or settings.batching.queue_samples,
            max_request_samples=(
                wanted.limits.max_request_samples or settings.limits.max_request_samples
            ),
            deadline_s=wanted.limits.deadline_s or settings.batching.deadline_s,
        )
        return cls(name, versions, wanted.default_version or next(reversed(versions)), limits)

    def __iter__(self) -> Iterator[ServedModel]:
        """Every model of every version, tier by tier."""
        for tiers in self.versions.values():
            yield from tiers.values()

    def find(self, version: str | None, tier: str | None) -> ServedModel:
        """Who answers; a tier that is not listed is answered as the public is.

        Raises:
            NotFound: no such version.
        """
        tiers = self.versions.get(self.default if version is None else version)
        if tiers is None:
            raise NotFound(f"model {self.name!r} has no version {(version or self.default)[:64]!r}")
        return tiers.get(tier or PUBLIC) or tiers[PUBLIC]


class Catalogue:
    """Everything that is served, by name; never changed, only replaced."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self._entries = {
            entry.name: entry for entry in sorted(entries, key=lambda entry: entry.name)
        }

    @classmethod
    def of(cls, models: Iterable[ServedModel], settings: Settings) -> Catalogue:
        """The catalogue of ``models``, each name's oldest version first."""
        by_name: dict[str, list[ServedModel]] = {}
        for model in models:
            by_name.setdefault(model.name, []).append(model)
        return cls(Entry.of(name, listed, settings) for name, listed in by_name.items())

    def __iter__(self) -> Iterator[Entry]:
        """Every entry, by name."""
        return iter(self._entries.values())

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def models(self) -> Iterator[ServedModel]:
        """Every model of every entry."""
        for entry in self:
            yield from entry

    def entry(self, name: str) -> Entry:
        """What is served as ``name``.

        Raises:
            NotFound: nothing is.
        """
        entry = self._entries.get(name)
        if entry is None:
            raise NotFound(f"there is no model {name[:64]!r}")
        return entry

    def with_entry(self, entry: Entry) -> Catalogue:
        """This one with ``entry`` in the place of whatever has its name."""
        return Catalogue({**self._entries, entry.name: entry}.values())

    def without(self, name: str) -> Catalogue:
        """This one without ``name``."""
        return Catalogue(entry for entry in self if entry.name != name)
