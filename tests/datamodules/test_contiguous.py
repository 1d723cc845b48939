"""Batches of a text, held against walking along it with a finger."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from datamodules.contiguous import IGNORED, ContiguousBatches

START = 1000


def walked(words, columns, complete):
    """Column by column, `(input, target)` in the order they are read."""
    length = -(-len(words) // columns) if complete else len(words) // columns
    found = []
    for column in range(columns):
        pairs = []
        for place in range(column * length, (column + 1) * length):
            if place >= len(words):
                pairs.append((START, IGNORED))
            else:
                pairs.append((words[place - 1] if place else START, words[place]))
        found.append(pairs)
    return found


def read(batches):
    """The same from batches."""
    inputs, targets = (torch.cat(side).T.tolist() for side in zip(*batches, strict=True))
    return [list(zip(a, b, strict=True)) for a, b in zip(inputs, targets, strict=True)]


sizes = st.tuples(st.integers(1, 40), st.integers(1, 8), st.integers(1, 9), st.booleans()).filter(
    lambda size: size[1] <= size[0]
)


@given(sizes)
def test_columns_are_stretches_of_the_text_and_batches_go_on(size):
    count, columns, steps, complete = size
    words = torch.arange(count, dtype=torch.int32)
    batches = ContiguousBatches(words, start=START, columns=columns, steps=steps, complete=complete)
    found = list(batches)
    assert len(found) == len(batches)
    assert all(side.dtype == torch.int64 for pair in found for side in pair)
    assert [len(inputs) for inputs, _ in found[:-1]] == [steps] * (len(found) - 1)
    assert 1 <= len(found[-1][0]) <= steps
    assert read(found) == walked(words.tolist(), columns, complete)


@given(sizes)
def test_every_word_is_asked_exactly_once_or_all_but_fewer_than_the_columns(size):
    count, columns, steps, complete = size
    batches = ContiguousBatches(
        torch.arange(count), start=START, columns=columns, steps=steps, complete=complete
    )
    asked = sorted(w for _, targets in batches for w in targets.flatten().tolist() if w != IGNORED)
    assert asked == list(range(count if complete else count - count % columns))


@given(sizes, st.integers(1, 4))
def test_several_processes_read_what_one_reads(size, world_size):
    count, columns, steps, complete = size
    columns *= world_size
    words = torch.arange(max(count, columns))
    options = {"start": START, "columns": columns, "steps": steps, "complete": complete}
    alone = list(ContiguousBatches(words, **options))
    together = [
        list(ContiguousBatches(words, **options, rank=rank, world_size=world_size))
        for rank in range(world_size)
    ]
    for batch, shares in zip(alone, zip(*together, strict=True), strict=True):
        for side in (0, 1):
            assert torch.equal(batch[side], torch.cat([share[side] for share in shares], dim=1))


@given(sizes, st.data())
def test_a_text_gone_through_in_several_epochs(size, data):
    count, columns, steps, _ = size
    options = {"start": START, "columns": columns, "steps": steps}
    whole = [targets.tolist() for _, targets in ContiguousBatches(torch.arange(count), **options)]
    parts = data.draw(st.integers(1, len(whole)))
    batches = ContiguousBatches(torch.arange(count), **options, parts=parts)
    places = []
    for epoch in range(parts):
        batches.set_epoch(epoch)
        found = [targets.tolist() for _, targets in batches]
        assert len(found) == len(batches) == -(-len(whole) // parts)
        place = whole.index(found[0])
        assert found == whole[place : place + len(found)]
        places += range(place, place + len(found))
    assert set(places) == set(range(len(whole)))
    assert len(places) - len(whole) < parts  # no more is read twice than equal lengths need
    batches.set_epoch(parts)
    assert [targets.tolist() for _, targets in batches] == [whole[i] for i in places[: len(batches)]]


def test_it_can_be_gone_through_again():
    batches = ContiguousBatches(torch.arange(20), start=START, columns=3, steps=4)
    assert read(batches) == read(batches)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"columns": 0}, "0 columns are not possible: the text has 10 words"),
        ({"columns": 11}, "11 columns are not possible: the text has 10 words"),
        ({"columns": 3, "world_size": 2}, "3 columns can't be shared evenly by 2 processes"),
        ({"steps": 0}, "steps=0 is not possible"),
        ({"parts": 4}, "4 epochs for once through the text are not possible: it has 3 batches"),
        ({"parts": 0}, "0 epochs"),
    ],
)
def test_sizes_that_are_not_possible(options, message):
    with pytest.raises(ValueError, match=message):
        ContiguousBatches(torch.arange(10), start=START, **{"columns": 2, "steps": 2} | options)
