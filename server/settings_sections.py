"""The sections of the settings: what belongs together, with its limits and defaults."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

__all__ = [
    "BatchingSettings",
    "ExplanationSettings",
    "LimitSettings",
    "ModelSettings",
    "MonitorSettings",
    "Positive",
    "Seconds",
    "Section",
]

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


class ModelSettings(Section):
    """What is served under one name: a victim and the chain its answers pass through."""

    victim: str | None = None
    """Bundle whose weights answer: ``NAME`` or ``NAME/VERSION``; default: the served name."""

    defenses: tuple[dict[str, Any], ...] = ()
    """The chain in order, each a mapping with ``kind`` and that defense's options."""

    roles: dict[str, str] = Field(default_factory=dict)
    """Networks that come from another bundle: ``misinformation: am-mnist/1#misinformation``."""

    tighten: tuple[dict[str, Any], ...] | None = None
    """The whole chain for callers that the monitor suspects; default: the chain of everybody."""

    explanations: ExplanationSettings | None = None
    """Whether, and how, callers may ask for attribution maps; default: they may not."""


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

    max_buffered_bytes: Positive = 256 * 2**20
    """Bytes of all bodies that are not decoded yet; beyond that a request is answered 503."""

    max_image_pixels: Positive = 16_000_000
    """Width times height of one encoded image; read from its header, before decoding."""

    max_request_samples: Positive = 256
    """Images in one request. Tensors in JSON are bounded by the bytes that so many can take."""

    body_timeout_s: Seconds = 30.0
    """How long the body of one request may take to arrive; beyond that it is answered 408."""


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
