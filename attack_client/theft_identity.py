"""Which theft the rows of a report are of, how they were learnt, and against what measured."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np

from attack_client.adaptive.known import KnownDefense
from attack_client.adaptive.shadow import ShadowService
from attack_client.clone import CloneRecipe
from attack_client.provenance import Provenance
from attack_client.report.schema import Theft
from attack_client.victim_input import TestSet
from models.bundle import Bundle

__all__ = ["identify"]


def identify(
    provenance: Provenance,
    test: TestSet,
    reference: Bundle | None,
    *,
    recipe: CloneRecipe,
    known: KnownDefense | None = None,
    shadow: ShadowService | None = None,
) -> Theft:
    """The theft of ``provenance``, measured on ``test`` and against ``reference``.

    Args:
        provenance: of the transfer set.
        test: as the victim is shown it.
        reference: the plain model, where it is at hand.
        recipe: of the clones. Rows name the architecture, so that it may differ among them.
        known: the defense that add-ons invert.
        shadow: the service that add-ons learn from.
    """
    networks = {} if reference is None else reference.card.networks
    return Theft(
        id=provenance.id,
        test=_sha256(
            test.name.encode(),
            np.ascontiguousarray(test.images).data,
            np.ascontiguousarray(test.labels).data,
        ),
        reference=_sha256(*(networks[role].sha256.encode() for role in sorted(networks)))
        if networks
        else None,
        learning=_sha256(repr(replace(recipe, architecture="", allow_factories=())).encode()),
        knowledge=_knowledge(known, shadow),
    )


def _knowledge(known: KnownDefense | None, shadow: ShadowService | None) -> str | None:
    if known is None and shadow is None:
        return None
    told = (
        known and (known.factory, sorted(known.options.items())),
        shadow and (shadow.url, shadow.defended, shadow.plain, shadow.softmax),
    )
    return _sha256(repr(told).encode())


def _sha256(*parts: bytes | memoryview) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()
