"""The leakage report: an envelope as every report has, and a row per clone."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, JsonValue, NonNegativeInt, PositiveInt

__all__ = ["Labels", "Report", "Row", "Theft"]

Labels = Literal["soft", "hard"]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Milliseconds = Annotated[float, Field(ge=0.0)]
Seconds = Annotated[float, Field(ge=0.0)]


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Row(_Record):
    """One clone: how it was stolen, what honest callers lost, how good it became.

    Null means that it cannot be known from outside, never zero.

    Attributes:
        dataset: the victim's test set, on which every accuracy here is measured.
        victim: the served model's name.
        pool: name of the surrogate pool.
        clone: architecture of the clone.
        defense: what the victim is defended by, as its operator names it.
        attack: kind of attack.
        labels: whether the clone learnt from probabilities or from their argmax.
        budget: queries allowed.
        queries: answers that the clone learnt from. 0 for a clone that had the labels of as many
            images as the budget instead, and asked nothing.
        unique_queries: distinct images among them. An equal image is answered from disk, unless
            the attack asks for it again on purpose.
        sent: what was sent for them costs, retries and what a kill cut off included: the most that
            a victim which ignores idempotency keys can have charged. An answer with a map counts as
            what the victim's metadata says.
        paid: what those cost that were asked for and not copied from an equal image's; null where
            an older report did not tell.
        published_queries: what the published code of the attack would have been charged for the
            same answers, where it asks again for what it knows; null where it does not.
        seed: of the choice of images; the clone's own seed is derived from it.
        victim_accuracy: of the plain model (same architecture and recipe, no defense).
        benign_accuracy: what an honest caller is served, through the API.
        benign_l1: mean L1 distance in [0, 2] between the plain model's probabilities and those
            served, on the test set.
        latency_p50_ms: median of sequential single-image requests, milliseconds.
        latency_p99_ms: 99th percentile of the same.
        evaluation_queries: honest queries spent on measuring, not part of the attack.
        clone_accuracy: of the clone on the test set.
        relative_accuracy: ``clone_accuracy / victim_accuracy``.
        fidelity: share of test images on which clone and plain model agree.
        fidelity_served: share of test images on which the clone agrees with what was served.
        class_accuracy: of the clone, by class of the test set; null for a class without images.
        victim_class_accuracy: the same of the plain model.
        clone_ece: expected calibration error of the clone, see ``attack_client.answer_quality``.
        victim_ece: the same of the plain model.
        served_ece: the same of what an honest caller is served.
        theft_seconds: from the first request for these queries to the last, pauses left out.
        training_seconds: of the clone; null where an equal one was at hand.
        cost: of the queries that were paid for, in the currency of the price per thousand;
            null where none was given.
    """

    dataset: str
    victim: str
    pool: str
    clone: str
    defense: str | None
    attack: str
    labels: Labels
    budget: PositiveInt
    queries: NonNegativeInt
    unique_queries: NonNegativeInt
    sent: NonNegativeInt
    paid: NonNegativeInt | None = None
    published_queries: NonNegativeInt | None = None
    seed: int
    victim_accuracy: Share | None
    benign_accuracy: Share | None
    benign_l1: Annotated[float, Field(ge=0.0, le=2.0)] | None
    latency_p50_ms: Milliseconds | None
    latency_p99_ms: Milliseconds | None
    evaluation_queries: NonNegativeInt
    clone_accuracy: Share
    relative_accuracy: Annotated[float, Field(ge=0.0)] | None
    fidelity: Share | None
    fidelity_served: Share | None
    class_accuracy: tuple[Share | None, ...] | None = None
    victim_class_accuracy: tuple[Share | None, ...] | None = None
    clone_ece: Share | None = None
    victim_ece: Share | None = None
    served_ece: Share | None = None
    theft_seconds: Seconds | None = None
    training_seconds: Seconds | None = None
    cost: Annotated[float, Field(ge=0.0)] | None = None

    @property
    def benign_cost(self) -> float | None:
        """Accuracy that honest callers lose to the defense; negative where they gain."""
        if self.victim_accuracy is None or self.benign_accuracy is None:
            return None
        return self.victim_accuracy - self.benign_accuracy


class Theft(_Record):
    """What rows must have in common to stand in one report of one theft.

    Attributes:
        id: of the transfer set.
        test: SHA-256 of the test set as the victim is shown it.
        reference: SHA-256 of the weights of the plain model; null where there is none.
        learning: SHA-256 of how clones are trained, whatever their architecture; null where an
            older report did not tell, which is like no other.
        knowledge: SHA-256 of the known defense and the shadow that add-ons made use of; null where
            none did.
    """

    id: UUID
    test: str
    reference: str | None
    learning: str | None = None
    knowledge: str | None = None

    def joined(self, other: Theft) -> Theft | None:
        """Of which theft the rows of both are, in one report; None where they must not mix.

        Rows that took no knowledge stand beside those that did.
        """
        if self.learning is None or self._settled != other._settled:
            return None
        known = {told for told in (self.knowledge, other.knowledge) if told is not None}
        if len(known) > 1:
            return None
        return self.model_copy(update={"knowledge": next(iter(known), None)})

    @property
    def _settled(self) -> tuple[object, ...]:
        """What is the same in all rows."""
        return (self.id, self.test, self.reference, self.learning)


class Report(_Record):
    """``report.json``: ``{"schema": 1, "command": [...], "environment": {...}, "rows": [...]}``.

    Attributes:
        schema_: version of this envelope; written as ``schema``.
        command: what was run, secrets left out.
        environment: what it ran on.
        rows: one per clone.
        leakage: of a leakage matrix, what its cells come to; left out of other reports.
        theft: of which theft all rows are; left out of reports of several.
        earlier_commands: what was run before with the same theft, where rows of it are kept,
            secrets left out; left out where there are none.
    """

    model_config = ConfigDict(populate_by_name=True)

    schema_: Literal[1] = Field(default=1, alias="schema")
    command: tuple[str, ...]
    environment: dict[str, JsonValue]
    rows: tuple[Row, ...]
    leakage: dict[str, JsonValue] | None = None
    theft: Theft | None = None
    earlier_commands: tuple[tuple[str, ...], ...] = ()

    @property
    def commands(self) -> tuple[tuple[str, ...], ...]:
        """All that was run for it, the last one last."""
        return (*self.earlier_commands, self.command)
