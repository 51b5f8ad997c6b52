"""A loop of one's own: it applies what the recipe asks for besides a plain step and says so, or it is refused."""

import dataclasses
from contextlib import ExitStack

import pytest
import torch

from problems import corners, find, one_thread
from scratchcard.methods.early_bird import EarlyBird
from scratchcard.methods.slimming import Slimming
from scratchcard.networks.forward import read_state, state_digest
from scratchcard.study.execute import Stopped
from scratchcard.study.study import Study
from scratchcard.training.besides import what_else
from scratchcard.training.data import batches
from scratchcard.training.loop import train
from scratchcard.training.measure import Measurement
from scratchcard.training.recipe import Recipe
from scratchcard.types import Snapshot

RECIPE = Recipe(steps=4, optimizer="sgd", lr=0.05, momentum=0.9, batch_size=20, eval_every=2)
ASKED = [{"scale_l1": 0.01}, {"precision": "block8"}, {"scale_l1": 0.01, "precision": "block8"}]
TO_DO = "yield from scratchcard.training.loop.train, or call training.besides.what_else"


def wrapped(*arguments):
    """Leaves the training to scratchcard."""
    yield from train(*arguments)


def deaf(model, data, loss, recipe, seed, stops, start):
    """Trains as the recipe says, but for what it asks for besides a plain step."""
    plain = dataclasses.replace(recipe, scale_l1=0.0, precision="float32")
    yield from train(model, data, loss, plain, seed, stops, start)


def by_hand(model, data, loss, recipe, seed, stops, start):
    """A loop that was written anew, with what the recipe asks for besides."""
    optimizer = recipe.make_optimizer(model.parameters())
    besides = what_else(model, optimizer, recipe, seed)
    feed = batches(data.train, recipe.batch_size, seed, start, torch.device("cpu"))
    for step in range(start, max(stops) + 1):
        if step in stops:
            yield Snapshot(step, None, lambda: read_state(model), besides=frozenset(besides))
        if step == max(stops):
            return
        model.train()
        inputs, targets = next(feed)
        optimizer.zero_grad()
        with ExitStack() as around:
            for part in besides.values():
                around.enter_context(part.forward(step))
            value = loss(model(inputs), targets)
        value.backward()
        for part in besides.values():
            part.after_backward(step)
        optimizer.step()
        for part in besides.values():
            part.after_step(step)


def measured(loop, start=0, **changes):
    """A measurement of a training by a loop, and the weights it ended with."""
    recipe = dataclasses.replace(RECIPE, **changes)
    task = dataclasses.replace(corners(), loop=loop)
    measurement = Measurement(task, recipe, 0, start)
    with one_thread():
        (end,) = [snapshot.state() for snapshot in measurement.snapshots(task.fresh(0), (recipe.steps,))]
    return measurement, end


@pytest.mark.parametrize("start", [0, 3])
@pytest.mark.parametrize("changes", ASKED, ids=lambda changes: " and ".join(changes))
def test_a_loop_that_leaves_out_what_the_recipe_asks_for_is_refused_by_name(changes, start):
    with pytest.raises(ValueError, match="the loop of task 'corners' does not say") as refused:
        measured(deaf, start, **changes)
    for name, value in changes.items():
        assert f"{name}={value}" in str(refused.value)
    assert TO_DO in str(refused.value)


@pytest.mark.parametrize("loop", [wrapped, by_hand])
@pytest.mark.parametrize("changes", [{}, *ASKED], ids=lambda changes: " and ".join(changes) or "nothing")
def test_a_loop_that_applies_what_the_recipe_asks_for_ends_as_scratchcards_own(loop, changes):
    _, ours = measured(None, **changes)
    measurement, end = measured(loop, **changes)
    assert state_digest(end) == state_digest(ours)
    assert measurement.curve.steps == [0, 2, 4]


def test_a_recipe_that_asks_for_nothing_besides_is_anyones_to_train():
    assert measured(deaf)[0].curve.steps == [0, 2, 4]


def test_a_search_whose_penalty_was_left_out_is_a_failed_row_that_says_so_in_full(tmp_path):
    task = dataclasses.replace(corners(), loop=deaf)
    rows = Study(task, RECIPE, [Slimming()], arms=[], seeds=1, store=tmp_path).run(workers=1, progress=False)
    by = {row.arm: row for row in rows}
    assert {arm: row.status for arm, row in by.items()} == {"dense": "done", "search": "failed", "ticket": "failed"}
    assert (by["ticket"].found, by["ticket"].message) == (False, by["search"].message)
    assert "does not say that it applies scale_l1=0.0001" in by["search"].message
    assert by["search"].message.endswith("the names that it returns"), "nothing of the sentence is lost"
    assert by["search"].curve.steps == [0]


@pytest.mark.parametrize(("precision", "named"), [(None, "scale_l1=0.0001"), ("block8", "precision=block8, scale_l1")])
def test_so_is_one_that_leaves_no_row_stopped(precision, named, tmp_path):
    task = dataclasses.replace(corners(), loop=deaf)
    method = EarlyBird(every=1, patience=2, precision=precision)
    with pytest.raises(Stopped, match=f"early-bird.*does not say that it applies {named}.*the names that it returns$"):
        find(task, RECIPE, method, tmp_path)


def test_methods_whose_training_is_given_over_to_scratchcard_find_the_same_ticket(tmp_path):
    tickets = [
        find(dataclasses.replace(corners(), loop=loop), RECIPE, Slimming(), tmp_path / name)[1][0]
        for name, loop in (("ours", None), ("wrapped", wrapped), ("by hand", by_hand))
    ]
    assert len({state_digest(ticket.weights) for ticket in tickets}) == 1
    assert len({state_digest(ticket.subnetwork.mask) for ticket in tickets}) == 1
