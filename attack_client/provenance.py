"""Which theft a transfer set belongs to."""

from __future__ import annotations

import hashlib
import os
import uuid
from pathlib import Path
from typing import Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, PositiveInt, ValidationError

from attack_client.contract import Attack, Pool, VictimFacts
from attack_client.errors import ProtocolError, TransferSetError
from models.training.atomic import write_atomically
from models.validation import first_problem

__all__ = ["Provenance"]


class Provenance(BaseModel):
    """``meta.json`` of a transfer set. Holds no key.

    Attributes:
        format: version of the directory's layout.
        id: names the theft; idempotency keys are derived from it.
        url: the victim's.
        model: the victim's name there.
        shape: ``(C, H, W)`` of the images asked about.
        classes: number of probabilities K.
        maps: ``(h, w)`` of the attribution maps kept beside the probabilities; None keeps none.
        softmax: whether the victim answers with logits, of which the probabilities were made.
        cost: queries that the victim counts an answer as; its operator may change it meanwhile.
        pool: name of the surrogate pool.
        pool_sha256: of the pool's images: another pool of that name is noticed.
        attack: the kind of attack.
        configuration: the attack's ``repr``, seed included.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1] = 1
    id: uuid.UUID
    url: str
    model: str
    shape: tuple[PositiveInt, PositiveInt, PositiveInt]
    classes: PositiveInt
    maps: tuple[PositiveInt, PositiveInt] | None = None
    softmax: bool = False
    cost: PositiveInt = 1
    pool: str
    pool_sha256: str
    attack: str
    configuration: str

    @classmethod
    def of(cls, facts: VictimFacts, pool: Pool, attack: Attack) -> Self:
        """A new theft, under its own random id.

        Raises:
            ProtocolError: the attack wants maps, and the victim has none.
        """
        if attack.explains and facts.maps is None:
            raise ProtocolError(
                f"the model {facts.model!r} at {facts.url} announces no maps, which attack "
                f"{attack.kind!r} learns from"
            )
        return cls(
            id=uuid.uuid4(),
            url=facts.url,
            model=facts.model,
            shape=facts.shape,
            classes=facts.classes,
            maps=facts.maps if attack.explains else None,
            softmax=facts.softmax,
            cost=facts.map_cost if attack.explains else 1,
            pool=pool.name,
            pool_sha256=hashlib.sha256(np.ascontiguousarray(pool.images).data).hexdigest(),
            attack=attack.kind,
            configuration=repr(attack),
        )

    @classmethod
    def read(cls, path: Path) -> Self:
        """From ``path``.

        Raises:
            TransferSetError: there is none, or it is not one.
        """
        try:
            return cls.model_validate_json(path.read_bytes())
        except FileNotFoundError as error:
            raise TransferSetError(f"{path.parent} holds no transfer set") from error
        except OSError as error:
            raise TransferSetError(f"cannot read {path}: {error.strerror}") from error
        except ValidationError as error:
            raise TransferSetError(f"{path}: {first_problem(error)}") from error

    def write(self, path: Path) -> None:
        """To ``path``, whole or not at all."""
        # A set without maps, or of probabilities, is written as it was before there were others.
        unsaid = {"cost"} if self.maps is None else set[str]()
        if not self.softmax:
            unsaid.add("softmax")
        text = self.model_dump_json(indent=2, exclude_none=True, exclude=unsaid)
        write_atomically(path, f"{text}\n".encode())
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def differences(self, other: Provenance) -> tuple[tuple[str, object, object], ...]:
        """Fields but ``id`` and ``cost`` in which two thefts differ: name, this value, its."""
        return tuple(
            (name, getattr(self, name), getattr(other, name))
            for name in type(self).model_fields
            if name not in {"id", "cost"} and getattr(self, name) != getattr(other, name)
        )
