"""Which theft the rows of a report are of, and against what they were measured."""

from __future__ import annotations

import hashlib

import numpy as np

from attack_client.provenance import Provenance
from attack_client.report.schema import Theft
from attack_client.victim_input import TestSet
from models.bundle import Bundle

__all__ = ["identify"]


def identify(provenance: Provenance, test: TestSet, reference: Bundle | None) -> Theft:
    """The theft of ``provenance``, measured on ``test`` and against ``reference``."""
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
    )


def _sha256(*parts: bytes | memoryview) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()
