"""The transfer set: nothing that was had is lost, nothing damaged is believed."""

from __future__ import annotations

import subprocess
import sys
import uuid
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from attack_client.errors import (
    CorruptRecord,
    TransferSetError,
    TransferSetExists,
    TransferSetLocked,
)
from attack_client.inspection import inspect_transfer_set
from attack_client.predictions import hard_labels
from attack_client.provenance import Provenance
from attack_client.transfer_set import TransferSet
from tests.attack_client.stub import LinearModel

SIZES = (7, 3, 5)


def fill(path: Path, provenance: Provenance, model: LinearModel) -> NDArray[np.uint8]:
    """Three records of 7, 3 and 5 images, written out of order."""
    images = model.images(sum(SIZES))
    with TransferSet.create(path, provenance) as stolen:
        for start, count in ((7, 3), (0, 7), (10, 5)):
            chosen = images[start : start + count]
            stolen.note_sent(start, count)
            stolen.append(start, chosen, model(chosen))
    return images


def test_prefixes_are_in_order_of_position(
    tmp_path: Path, provenance: Provenance, model: LinearModel
) -> None:
    images = fill(tmp_path, provenance, model)
    with TransferSet.read(tmp_path) as stolen:
        assert stolen.recorded == stolen.complete == 15
        for budget in range(1, 16):
            asked, said = stolen.prefix(budget)
            np.testing.assert_array_equal(asked, images[:budget])
            np.testing.assert_array_equal(said, model(images)[:budget])
        middle, _ = stolen.answers(5, 7)
        np.testing.assert_array_equal(middle, images[5:12])
        with pytest.raises(TransferSetError, match="no answer at position 15"):
            stolen.prefix(16)


def test_a_gap_ends_what_is_usable(
    tmp_path: Path, provenance: Provenance, model: LinearModel
) -> None:
    images = model.images(6)
    with TransferSet.create(tmp_path, provenance) as stolen:
        stolen.append(0, images[:2], model(images[:2]))
        stolen.append(4, images[4:], model(images[4:]))
        assert stolen.complete == 2
        assert stolen.recorded == 4
        assert stolen.missing(0, 8) == ((2, 2), (6, 2))
        assert stolen.missing(1, 1) == ()
        assert stolen.missing(5000, 3) == ((5000, 3),)


def test_an_end_torn_at_any_byte_costs_the_last_record_only(
    tmp_path: Path, provenance: Provenance, model: LinearModel
) -> None:
    images = fill(tmp_path, provenance, model)
    file = tmp_path / "records.bin"
    whole = file.read_bytes()
    last = 20 + 5 * (64 + 4 * 5) + 4
    for cut in range(1, last + 1):
        file.write_bytes(whole[:-cut])
        with TransferSet.resume(tmp_path, provenance) as stolen:
            assert stolen.repaired == last - cut
            assert stolen.recorded == stolen.complete == 10
            assert file.stat().st_size == len(whole) - last
            if cut in {1, last // 2, last}:
                stolen.append(10, images[10:], model(images[10:]))
                np.testing.assert_array_equal(stolen.prefix(15)[0], images)


def test_a_tail_of_zeros_is_torn_too(
    tmp_path: Path, provenance: Provenance, model: LinearModel
) -> None:
    # After a power cut a file system may have grown the file without writing the data.
    fill(tmp_path, provenance, model)
    with (tmp_path / "records.bin").open("ab") as file:
        file.write(bytes(300))
    with TransferSet.resume(tmp_path, provenance) as stolen:
        assert stolen.repaired == 300
        assert stolen.recorded == 15


def test_any_damaged_byte_in_the_middle_is_an_error_that_names_the_offset(
    tmp_path: Path, provenance: Provenance, model: LinearModel
) -> None:
    fill(tmp_path, provenance, model)
    file = tmp_path / "records.bin"
    whole = file.read_bytes()
    first = 20 + 3 * (64 + 4 * 5) + 4
    for offset in (*range(24), first // 2, first - 1, first, first + 13, first + 400):
        damaged = bytearray(whole)
        damaged[offset] ^= 0x10
        file.write_bytes(damaged)
        with pytest.raises(CorruptRecord, match="is damaged at offset") as caught:
            TransferSet.resume(tmp_path, provenance)
        assert caught.value.offset == (0 if offset < first else first)
        assert file.read_bytes() == damaged, "a damaged file is left for a person to look at"


def test_a_theft_goes_on_under_its_own_id(
    tmp_path: Path, provenance: Provenance, model: LinearModel
) -> None:
    fill(tmp_path, provenance, model)
    again = provenance.model_copy(update={"id": uuid.uuid4()})
    with TransferSet.resume(tmp_path, again) as stolen:
        assert stolen.provenance.id == provenance.id


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("url", "http://other"),
        ("model", "toy2"),
        ("pool", "letters"),
        ("pool_sha256", "0" * 64),
        ("configuration", "knockoff(seed=4)"),
        ("classes", 6),
        ("shape", (1, 8, 7)),
    ],
)
def test_another_theft_is_refused_by_field(
    tmp_path: Path, provenance: Provenance, model: LinearModel, field: str, value: object
) -> None:
    fill(tmp_path, provenance, model)
    other = provenance.model_copy(update={field: value})
    with pytest.raises(TransferSetError, match=rf"another theft: {field} was .*, not "):
        TransferSet.resume(tmp_path, other)


def test_what_was_paid_for_is_never_overwritten(
    tmp_path: Path, provenance: Provenance, model: LinearModel
) -> None:
    images = fill(tmp_path, provenance, model)
    with pytest.raises(TransferSetExists, match="--resume"):
        TransferSet.create(tmp_path, provenance)
    with (
        TransferSet.resume(tmp_path, provenance) as stolen,
        pytest.raises(TransferSetError, match="twice"),
    ):
        stolen.append(9, images[:2], model(images[:2]))


def test_a_set_that_never_asked_anything_is_replaced(
    tmp_path: Path, provenance: Provenance
) -> None:
    TransferSet.create(tmp_path, provenance).close()
    other = provenance.model_copy(update={"pool": "letters"})
    with TransferSet.create(tmp_path, other) as stolen:
        assert stolen.provenance.pool == "letters"


def test_answers_without_their_meta_are_not_thrown_away(
    tmp_path: Path, provenance: Provenance, model: LinearModel
) -> None:
    fill(tmp_path, provenance, model)
    (tmp_path / "meta.json").unlink()
    with pytest.raises(TransferSetError, match=r"meta\.json is missing"):
        TransferSet.create(tmp_path, provenance)


def test_one_process_writes_others_may_read(
    tmp_path: Path, provenance: Provenance, model: LinearModel
) -> None:
    fill(tmp_path, provenance, model)
    program = (
        "import sys; from pathlib import Path\n"
        "from attack_client.transfer_set import TransferSet\n"
        "from attack_client.errors import TransferSetLocked\n"
        "path = Path(sys.argv[1]); read = TransferSet.read(path); print(read.recorded)\n"
        "try: TransferSet.resume(path, read.provenance)\n"
        "except TransferSetLocked as error: print(error)\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    with TransferSet.resume(tmp_path, provenance):
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        with pytest.raises(TransferSetLocked):
            TransferSet.resume(tmp_path, provenance)
    assert done.stdout.splitlines() == ["15", f"another process is writing {tmp_path}"]
    TransferSet.resume(tmp_path, provenance).close()


def test_the_journal_counts_what_was_sent_in_vain(
    tmp_path: Path, provenance: Provenance, model: LinearModel
) -> None:
    fill(tmp_path, provenance, model)
    with TransferSet.resume(tmp_path, provenance) as stolen:
        stolen.note_sent(8, 4)
        assert stolen.sent() == 19
        assert stolen.sent(10) == 12
        assert stolen.sent(8) == 8
    with (tmp_path / "sent.log").open("ab") as file:
        file.write(b"12 ")  # cut off by a kill
    with TransferSet.resume(tmp_path, provenance) as stolen:
        assert stolen.sent() == 19
        stolen.note_sent(15, 1)
    with TransferSet.read(tmp_path) as stolen:
        assert stolen.sent() == 20
    (tmp_path / "sent.log").unlink()
    with TransferSet.read(tmp_path) as stolen:
        assert stolen.sent() == 15, "what was answered was sent"


def test_reading_nothing_says_so(tmp_path: Path) -> None:
    with pytest.raises(TransferSetError, match="holds no transfer set"):
        TransferSet.read(tmp_path)
    (tmp_path / "meta.json").write_text('{"format": 2}')
    with pytest.raises(TransferSetError, match="format"):
        TransferSet.read(tmp_path)


def test_hard_labels_are_the_lowest_of_equal_maxima() -> None:
    answers = np.array([[0.25, 0.25, 0.25, 0.25], [0.1, 0.4, 0.1, 0.4]], dtype=np.float32)
    assert hard_labels(answers).tolist() == [0, 1]


def test_a_tail_with_any_byte_changed_is_never_believed(
    tmp_path: Path, provenance: Provenance, model: LinearModel
) -> None:
    fill(tmp_path, provenance, model)
    file = tmp_path / "records.bin"
    whole = file.read_bytes()
    last = 20 + 5 * (64 + 4 * 5) + 4
    for place in range(len(whole) - last, len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 0x01
        file.write_bytes(damaged)
        with TransferSet.read(tmp_path) as stolen:
            assert (stolen.recorded, stolen.torn) == (10, last)
        assert file.read_bytes() == damaged, "looking changes nothing"
        with TransferSet.resume(tmp_path, provenance) as stolen:
            assert (stolen.recorded, stolen.repaired) == (10, last)


def test_a_journal_torn_at_any_byte_is_read_to_its_last_whole_line(
    tmp_path: Path, provenance: Provenance, model: LinearModel
) -> None:
    fill(tmp_path, provenance, model)
    file = tmp_path / "sent.log"
    whole = file.read_bytes()
    for cut in range(len(whole)):
        file.write_bytes(whole[:cut])
        with TransferSet.resume(tmp_path, provenance) as stolen:
            assert stolen.sent() == stolen.recorded == 15
        assert file.read_bytes() == whole[: whole[:cut].rfind(b"\n") + 1]


def test_looking_tells_what_was_said_and_what_is_damaged(
    tmp_path: Path, provenance: Provenance, model: LinearModel
) -> None:
    images = fill(tmp_path, provenance, model)
    shown = dict(inspect_transfer_set(tmp_path))
    counts = np.bincount(hard_labels(model(images)), minlength=5)
    assert shown["top-1 by class"] == " ".join(f"{k}:{n}" for k, n in enumerate(counts))
    assert (shown["answers on disk"], shown["distinct images"]) == ("15", "15")
    assert shown["damage"] == "none"
    assert shown["first request"] <= shown["last request"]
    file = tmp_path / "records.bin"
    file.write_bytes(file.read_bytes()[:-1])
    assert "bytes of a torn last record" in dict(inspect_transfer_set(tmp_path))["damage"]
    damaged = bytearray(file.read_bytes())
    damaged[30] ^= 1
    file.write_bytes(damaged)
    assert "damaged at offset 0" in dict(inspect_transfer_set(tmp_path))["damage"]
