"""Changing what is served while it is served: load, warm up, switch, unload; or refuse."""

from __future__ import annotations

import asyncio
import gc
import shutil
import weakref
from typing import Any

import numpy as np
import pytest

from server.errors import ConfigurationError, Draining, NotFound
from server.hot_reload import Change
from tests.server.core.conftest import write
from tests.server.core.running import NOISE, Running

pytestmark = pytest.mark.anyio


async def test_a_new_version_becomes_the_default_and_the_old_one_stays(running: Running) -> None:
    old = await running.say("digits")
    write(running.given["model_dir"], "digits", "2", "victim", seed=2)
    change = await running.reloads.reload()
    assert change == Change(("digits/2",), ("digits/1", "letters/1"), ())
    assert running.service.view("digits").version == "2"
    assert np.abs(await running.say("digits") - old).max() > 1e-3
    np.testing.assert_array_equal(await running.say("digits", "1"), old)
    assert running.count("reload", "made") == 1


async def test_what_did_not_change_is_the_very_same(running: Running) -> None:
    before = list(running.service.catalogue.models())
    assert (await running.reloads.reload()).loaded == ()
    assert list(running.service.catalogue.models()) == before


async def test_a_new_chain_over_the_same_weights_loads_no_weights(running: Running) -> None:
    network = next(iter(running.service.catalogue.entry("digits"))).victim.module(0)
    running.given["models"] = {"digits": {"defenses": [{"kind": "label-only"}]}}
    change = await running.reloads.reload()
    assert change == Change(("digits/1",), (), ("digits/1", "letters/1"))
    assert set(np.unique(await running.say("digits"))) == {0.0, 1.0}
    assert next(iter(running.service.catalogue.entry("digits"))).victim.module(0) is network
    with pytest.raises(NotFound):
        running.service.view("letters")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"models": {"digits": {"victim": "nobody"}}}, r"models\.digits\.victim: there is no"),
        (
            {"models": {"digits": {"defenses": [{"kind": "top-k", "k": 99}]}}},
            r"models\.digits\.defenses\[0\]\.k",
        ),
        ({"drain_s": 5.0}, "drain_s: a change of this needs a restart"),
    ],
)
async def test_a_bad_configuration_is_refused_and_the_old_models_answer(
    running: Running, given: dict[str, Any], message: str
) -> None:
    old = await running.say("digits")
    good = dict(running.given)
    running.given.update(given)
    with pytest.raises(ConfigurationError, match=message):
        await running.reloads.reload()
    np.testing.assert_array_equal(await running.say("digits"), old)
    assert running.count("reload", "refused") == 1
    sound = "intaglio_repository_last_change_succeeded"
    assert running.registry.get_sample_value(sound) == 0
    running.given.clear()
    running.given.update(good)
    await running.reloads.reload()
    assert running.registry.get_sample_value(sound) == 1


async def test_who_was_shown_a_model_is_answered_by_it(running: Running) -> None:
    old = await running.say("digits")
    view = running.service.view("digits")
    await running.reloads.unload("digits")
    with pytest.raises(NotFound):
        running.service.view("digits")
    np.testing.assert_array_equal(await running.service.predict(view, NOISE), old)


async def test_unloaded_models_are_freed(running: Running) -> None:
    await running.say("digits")
    (model,) = running.service.catalogue.entry("digits")
    gone = [weakref.ref(part) for part in (model.victim.module(0), model.chain)]
    assert len(running.weights) == 2
    del model
    await running.reloads.unload("digits")
    for _ in range(100):  # the engine's thread may not have let go of its last batch yet
        gc.collect()
        if all(ref() is None for ref in gone):
            break
        await asyncio.sleep(0.02)
    assert [ref() for ref in gone] == [None, None]
    assert len(running.weights) == 1


async def test_one_model_is_loaded_and_unloaded_and_the_index_says_so(running: Running) -> None:
    def states(**which: bool) -> list[tuple[str, ...]]:
        return [tuple(record.values()) for record in running.reloads.index(**which)]

    letters = ("letters", "1", "READY", "")
    await running.reloads.unload("digits")
    assert states() == [letters, ("digits", "UNAVAILABLE", "unloaded")]
    assert states(ready=True) == [letters]
    write(running.given["model_dir"], "letters", "2", "victim", seed=2)
    assert (await running.reloads.load("digits")).loaded == ("digits/1",)
    assert states() == [("digits", "1", "READY", ""), letters], "others are left alone"
    with pytest.raises(NotFound, match="says nothing of a model 'nobody'"):
        await running.reloads.load("nobody")
    with pytest.raises(NotFound):
        await running.reloads.unload("nobody")


async def test_a_model_that_cannot_be_loaded_says_why_in_the_index(running: Running) -> None:
    await running.reloads.unload("digits")
    weights = running.given["model_dir"] / "digits" / "1" / "victim.safetensors"
    weights.write_bytes(b"\0" + weights.read_bytes()[1:])
    with pytest.raises(ConfigurationError, match="sha256"):
        await running.reloads.load("digits")
    (record,) = [one for one in running.reloads.index() if one["name"] == "digits"]
    assert record["state"] == "UNAVAILABLE"
    assert "sha256" in record["reason"]


async def test_a_bundle_that_was_replaced_is_loaded_again(running: Running) -> None:
    old = await running.say("digits")
    shutil.rmtree(running.given["model_dir"] / "digits")
    write(running.given["model_dir"], "digits", "1", "victim", seed=9)
    assert (await running.reloads.reload()).loaded == ("digits/1",)
    assert np.abs(await running.say("digits") - old).max() > 1e-3


async def test_after_the_end_nothing_is_loaded(running: Running) -> None:
    running.reloads.close()
    with pytest.raises(Draining):
        await running.reloads.reload()


async def test_reloads_under_load_lose_no_request(running: Running) -> None:
    write(running.given["model_dir"], "digits", "2", "victim", seed=2)
    chains: list[list[dict[str, Any]]] = [[], [{"kind": "top-k", "k": 2}]]
    answered, over = 0, False

    async def caller() -> None:
        nonlocal answered
        while not over:
            answers = await running.say("digits")
            assert answers.shape == (4, 10)
            answered += 1

    callers = [asyncio.create_task(caller()) for _ in range(4)]
    for turn in range(10):
        victim = f"digits/{1 + turn % 2}"
        running.given["models"] = {"digits": {"victim": victim, "defenses": chains[turn % 2]}}
        await running.reloads.reload()
        assert running.service.view("digits").version == str(1 + turn % 2)
    over = True
    await asyncio.gather(*callers)
    assert answered > 10
    # The thread that computes lets go of its last batch a moment after it was answered.
    async with asyncio.timeout(10):
        while len(running.weights) > 1:
            await asyncio.sleep(0.01)
