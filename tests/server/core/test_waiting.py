"""The line of waiting items, operation by operation against a plain list."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from server.waiting import Item, Ticket, WaitingLine

operations = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.sampled_from("ab"), st.integers(1, 5)),
        st.tuples(st.just("discard"), st.integers(0, 30), st.none()),
        st.tuples(st.just("take"), st.sampled_from("ab"), st.integers(1, 8)),
    ),
    max_size=30,
)


@given(operations)
def test_it_behaves_like_a_list(steps: list[tuple[str, Any, Any]]) -> None:
    loop = asyncio.new_event_loop()
    line: WaitingLine[str] = WaitingLine()
    model: list[tuple[str, Item]] = []
    ever: list[Item] = []
    for step, first, second in steps:
        if step == "add":
            ticket = Ticket(loop.create_future(), second, 1.0)
            item = Item(ticket, np.zeros((second, 1, 1, 1), dtype=np.uint8), 0, 0.0)
            ever.append(item)
            line.add(first, item)
            model.append((first, item))
        elif step == "discard" and first < len(ever):
            line.discard(ever[first])
            model = [(group, item) for group, item in model if item is not ever[first]]
        elif step == "take":
            taken: list[Item] = []
            for group, item in model:
                if group == first:
                    if taken and sum(each.samples for each in taken) + item.samples > second:
                        break
                    taken.append(item)
            assert line.take(first, second) == taken
            model = [(group, item) for group, item in model if item not in taken]
        assert line.samples == sum(item.samples for _, item in model)
        heads: dict[str, Item] = {}
        for group, item in model:
            heads.setdefault(group, item)
        assert [(group, item) for group, item, _ in line] == list(heads.items())
        for group, _, samples in line:
            assert samples == sum(item.samples for each, item in model if each == group)
    loop.close()
