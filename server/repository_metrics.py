"""What hot reloads tell the operator."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge

__all__ = ["RepositoryMetrics"]


class RepositoryMetrics:
    """Counts of changes to what is served, beside those of ``server.metrics``.

    Args:
        registry: where they are registered.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._changes = Counter(
            "intaglio_repository_changes",
            "Changes to what is served that were asked for, by what came of them.",
            ["action", "outcome"],
            registry=registry,
        )
        self._sound = Gauge(
            "intaglio_repository_last_change_succeeded",
            "Whether the last change that was tried was made; 0: the old models are served.",
            registry=registry,
        )
        self._sound.set(1)
        for action in ("reload", "load", "unload"):
            for outcome in ("made", "refused"):
                self._changes.labels(action, outcome)

    def changed(self, action: str, *, made: bool) -> None:
        """Count a reload, load or unload."""
        self._changes.labels(action, "made" if made else "refused").inc()
        self._sound.set(int(made))

    def mistaken(self, action: str) -> None:
        """Count one that named nothing there is: no change was tried, so none has failed."""
        self._changes.labels(action, "refused").inc()
