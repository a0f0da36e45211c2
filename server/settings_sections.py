"""The sections of the settings: what belongs together, with its limits and defaults."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from models.card import Name
from server.settings_values import HttpAddress

__all__ = [
    "PUBLIC",
    "BatchingSettings",
    "CacheSettings",
    "ExplanationSettings",
    "LimitSettings",
    "ModelLimitSettings",
    "ModelSettings",
    "MonitorSettings",
    "Positive",
    "Seconds",
    "Section",
    "TierSettings",
    "TracingSettings",
]

PUBLIC = "public"
"""The tier of callers who have none."""

Positive = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0.0, le=86_400.0)]


class Section(BaseModel):
    """What every section has: unknown keys are refused, and nothing changes after the start."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class ExplanationSettings(Section):
    """Attribution maps: which part of an image spoke for the label that leaves."""

    interpreter: Annotated[str, Field(pattern=r"^(grad-cam|gradient-x-input|relevance-cam)$")]
    """How maps are made; the operator's choice, never a caller's."""

    layer: str | None = None
    """Layer whose activations are weighed, as in `features.4`; default: the last before pooling."""

    cost: Positive = 4
    """Samples that one explained image counts as, wherever samples are limited."""

    unprotected: bool = False
    """Serve maps although no defense of the chain covers them."""


def _links(given: object) -> object:
    """A chain is written as a list of mappings, and what else people write gets an example."""
    if isinstance(given, list | tuple) and all(isinstance(link, dict) for link in given):
        return given
    raise ValueError("must be a list of mappings, as in - {kind: top-k, k: 3}")


Links = Annotated[tuple[dict[str, Any], ...], BeforeValidator(_links)]


class TierSettings(Section):
    """What answers callers: a victim and the chain that its answers pass through."""

    victim: str | None = None
    """Bundle whose weights answer: ``NAME`` or ``NAME/VERSION``; default: the served name, and for
    a tier the model's ``victim``."""

    defenses: Links = ()
    """The chain in order, each a mapping with ``kind`` and that defense's options."""

    roles: dict[str, str] = Field(default_factory=dict)
    """Networks that come from another bundle: ``misinformation: am-mnist/1#misinformation``."""

    tighten: Links | None = None
    """The whole chain for callers that the monitor suspects; default: the chain of everybody."""

    explanations: ExplanationSettings | None = None
    """Whether, and how, callers may ask for attribution maps; default: they may not."""


class ModelLimitSettings(Section):
    """What one model may take of the server; no more than the server's own limits."""

    queue_samples: Positive | None = None
    """Samples of this model that may wait or be computed at a time; beyond that a request is
    answered 503, whatever room other models leave; default: ``batching.queue_samples``."""

    max_request_samples: Positive | None = None
    """Images in one request; default: ``limits.max_request_samples``."""

    deadline_s: Seconds | None = None
    """Deadline of a request that states none, and the longest that one may state; default:
    ``batching.deadline_s``."""


def _text(given: object) -> object:
    """3 is the version ``"3"``."""
    if isinstance(given, float):
        raise ValueError("write a version with a point as text: '1.10'")
    return str(given) if type(given) is int else given


def _versions(given: object) -> object:
    """``all``, ``latest`` or one version stand for themselves; 3 is the version ``"3"``."""
    listed = given if isinstance(given, list | tuple) else [given]
    return [_text(version) for version in listed]


class ModelSettings(TierSettings):
    """What is served under one name: a victim and a chain, or several by tier."""

    tiers: dict[Name, TierSettings] = Field(default_factory=dict)
    """Who is answered by what, by the tier of the caller's key. ``public`` must be one: it answers
    callers without a tier and those whose tier is not listed. None: all callers are alike."""

    versions: Annotated[tuple[Name, ...], BeforeValidator(_versions)] = ("latest",)
    """Versions of the bundle that are served side by side: ``latest``, ``all`` or a list."""

    default_version: Annotated[str | None, BeforeValidator(_text)] = None
    """Version that answers where a request names none; default: the newest that is served."""

    limits: ModelLimitSettings = ModelLimitSettings()
    """What this model may take of the server."""

    @property
    def offers(self) -> dict[str, TierSettings]:
        """What answers, by tier, ``public`` first; that one alone where there are no tiers."""
        if not self.tiers:
            return {PUBLIC: self}
        named = {
            tier: offer.model_copy(update={"victim": offer.victim or self.victim})
            for tier, offer in sorted(self.tiers.items())
        }
        return {PUBLIC: named.pop(PUBLIC), **named}

    @model_validator(mode="after")
    def _one_place_for_each(self) -> ModelSettings:
        if len(self.versions) != 1 and {"all", "latest"} & set(self.versions):
            raise ValueError("versions must be all, latest, or a list of versions")
        if not self.versions:
            raise ValueError("versions must name at least one version")
        if not self.tiers:
            return self
        if PUBLIC not in self.tiers:
            raise ValueError(
                f"tiers must have one called {PUBLIC}, for callers who have no tier of the others"
            )
        for key in ("defenses", "roles", "tighten", "explanations"):
            if key in self.model_fields_set:
                raise ValueError(f"{key} must be set in each tier, not beside them")
        return self


class CacheSettings(Section):
    """Answers that are kept, after the chain, for who asks about the same image again.

    Off by default: how fast an answer comes tells that it was given before. Chains whose answers
    depend on what was asked before are never kept.
    """

    backend: Annotated[str, Field(pattern=r"^(off|memory|redis)$")] = "off"
    """Where they are kept: nowhere, in this process, or in Redis for every replica."""

    max_bytes: Positive = 64 * 2**20
    """Bytes that answers in memory may take, the least recently used being dropped; Redis has a
    bound of its own, ``maxmemory``."""

    ttl_s: Seconds = 3600.0
    """How long an answer is kept."""

    shared: bool = False
    """Keep one answer for all callers of a tier: faster, and it tells each what others asked.
    Required where there are no API keys: callers that are not told apart share it anyway."""


class MonitorSettings(Section):
    """Whether somebody watches how callers ask, and what the watcher may remember.

    At most ``callers`` times ``images`` pictures of up to 32 by 32 pixels are kept: 800 kB for
    every 1,024 grey ones, three times that for colours.
    """

    enabled: bool = False
    """Whether callers' queries are watched at all."""

    threshold: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.9
    """Shapiro-Wilk W of a caller's distances below which the caller is suspected."""

    hold_s: Annotated[float, Field(gt=0.0, le=604_800.0)] = 86_400.0
    """How long a suspicion lasts after the last test that raised it."""

    callers: Annotated[int, Field(ge=1, le=1_000_000)] = 256
    """Pairs of caller and model that are followed; beyond that, who asked least recently is
    forgotten."""

    images: Annotated[int, Field(ge=16, le=100_000)] = 512
    """Pictures kept for each pair, to measure distances from; the latest ones."""

    window: Annotated[int, Field(ge=101, le=5000)] = 1000
    """Distances kept for each pair, to test; the latest ones."""


class LimitSettings(Section):
    """What a single request may ask for, and what all of them together may hold."""

    max_body_bytes: Positive = 16 * 2**20
    """Body size in bytes, before and after decompression."""

    max_json_bytes: Positive = 2 * 2**20
    """Size in bytes of a ``/v2`` request that is nothing but JSON, and of the JSON before binary
    tensors; before and after decompression. A parser keeps the whole process waiting."""

    max_buffered_bytes: Positive = 256 * 2**20
    """Bytes of all bodies that are not decoded yet; beyond that a request is answered 503."""

    max_caller_buffered_bytes: Positive | None = None
    """What one API key may hold of ``max_buffered_bytes``; default: a quarter of them, or twice
    ``max_body_bytes`` if that is more."""

    max_image_pixels: Positive = 16_000_000
    """Width times height of one encoded image; read from its header, before decoding."""

    max_request_pixels: Positive | None = None
    """Pixels of all encoded images of a request together, by their headers; default: four times
    ``max_image_pixels``."""

    max_request_samples: Positive = 256
    """Images in one request. Tensors in JSON are bounded by the bytes that so many can take."""

    body_timeout_s: Seconds = 30.0
    """How long the body of one request may take to arrive; beyond that it is answered 408."""

    @property
    def caller_buffered_bytes(self) -> int:
        """``max_caller_buffered_bytes``, or its default."""
        default = max(self.max_buffered_bytes // 4, 2 * self.max_body_bytes)
        return self.max_caller_buffered_bytes or default

    @property
    def request_pixels(self) -> int:
        """``max_request_pixels``, or its default."""
        return self.max_request_pixels or 4 * self.max_image_pixels

    @model_validator(mode="after")
    def _the_largest_image_fits(self) -> LimitSettings:
        if self.request_pixels < self.max_image_pixels:
            raise ValueError(
                "max_request_pixels must be at least max_image_pixels, "
                "or the largest image could never be accepted"
            )
        return self


class TracingSettings(Section):
    """Whether requests are traced, and where traces go (OpenTelemetry, OTLP over HTTP)."""

    endpoint: HttpAddress | None = None
    """The collector, as in ``http://collector:4318/v1/traces``; default: nothing is traced."""

    share: Annotated[float, Field(ge=0.0, le=1.0)] = 1.0
    """Share of the requests that are traced."""


class BatchingSettings(Section):
    """How queries become batches."""

    max_batch_size: Positive = 64
    """Samples in one forward pass."""

    max_wait_ms: Annotated[float, Field(ge=0.0, le=10_000.0)] = 0.0
    """How long an idle engine waits, from the first query, for a batch to fill; 0: not at all."""

    queue_samples: Positive = 1024
    """Samples that may wait; beyond that a request is answered 503."""

    deadline_s: Seconds = 10.0
    """Deadline of a request that states none, and the longest that one may state."""
