"""Which theft the rows of a report are of, and against what they were measured."""

from __future__ import annotations

import hashlib

import numpy as np

from attack_client.provenance import Provenance
from attack_client.report.schema import Theft
from attack_client.victim_input import TestSet
from models.card import Card

__all__ = ["identify"]


def identify(provenance: Provenance, test: TestSet, reference: Card | None) -> Theft:
    """The theft of ``provenance``, measured on ``test`` and against ``reference``."""
    return Theft(
        id=provenance.id,
        test=_sha256(
            test.name.encode(),
            np.ascontiguousarray(test.images).data,
            np.ascontiguousarray(test.labels).data,
        ),
        reference=None
        if reference is None
        else _sha256(*(net.sha256.encode() for _, net in sorted(reference.networks.items()))),
    )


def _sha256(*parts: bytes | memoryview) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()
