"""What a method says of itself before anything is trained - origin, price, widths - is what its rows say afterwards."""

import dataclasses
from collections import OrderedDict

import pytest
from torch import nn

from problems import corners
from scratchcard.methods import METHODS
from scratchcard.methods.at_init import AtInit
from scratchcard.methods.early_bird import EarlyBird
from scratchcard.methods.imp import IMP
from scratchcard.methods.slimming import Slimming
from scratchcard.methods.ticket import Dense, End, Handed
from scratchcard.networks.forward import read_state, state_digest
from scratchcard.study.store import Store
from scratchcard.study.study import Study
from scratchcard.study.tickets import kept
from scratchcard.training.recipe import Recipe

RECIPE = Recipe(steps=8, optimizer="sgd", lr=0.05, momentum=0.9, batch_size=40, eval_every=8)


def every_kind() -> nn.Module:
    """A convolution, a linear layer and an output, so that every method has something to cut."""
    return nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(1, 6, 3, stride=2, padding=1, bias=False),
            bn=nn.BatchNorm2d(6),
            relu=nn.ReLU(),
            flatten=nn.Flatten(),
            hidden=nn.Linear(54, 8),
            act=nn.ReLU(),
            output=nn.Linear(8, 4),
        )
    )


def small(method):
    """The method with one level, or two, as it can be run on so small a network and so short a training."""
    if isinstance(method, AtInit):
        return dataclasses.replace(method, rounds=1, examples=80)
    if isinstance(method, EarlyBird):
        return dataclasses.replace(method, rounds=2, rate=0.3, every=1, patience=2, epsilon=0.3)
    like_another = isinstance(method, IMP) and (method.only or method.criterion != "large_final")
    return dataclasses.replace(method, rounds=1 if like_another else 2)


OTHERS = (
    IMP(rewind=3),
    IMP(rewind=3, between="lr-rewind"),
    IMP(between="fine-tune", one_shot=True, fine_tune_steps=5),
    IMP(units="channels", rewind=3, one_shot=True),
    Slimming(rate=0.3, passes=True, fine_tune_steps=3),
)
ALL = {method.label: small(method) for method in (*METHODS.values(), *OTHERS)}
every_method = pytest.mark.parametrize("label", ALL)
LATER = {"early-bird", "early-bird-window", "imp-channels", "slimming-passes"}
"""Those whose searches may stop before their end, or are made in networks that are smaller than the dense one."""


@pytest.fixture(scope="module")
def declared(tmp_path_factory):
    """One study of all methods: (study, its rows by method, level and arm, what backs its trainings)."""
    folder, task = tmp_path_factory.mktemp("store"), dataclasses.replace(corners(), model=every_kind)
    study = Study(task, RECIPE, list(ALL.values()), arms=[], seeds=1, store=folder)
    rows = {(row.method, row.level, row.arm): row for row in study.run(workers=1, progress=False)}
    assert {row.status for row in rows.values()} == {"done"}
    return study, rows, study.trainings(Store(folder))


def levels(study, label):
    return range(1, len(study.spec.methods[label].densities))


def test_the_methods_of_the_command_line_are_all_here():
    assert set(METHODS) < set(ALL)
    assert len(ALL) == len(METHODS) + len(OTHERS)


@every_method
def test_a_search_costs_no_more_than_was_said_and_that_where_nothing_is_cut_short(declared, label):
    study, rows, backed = declared
    one_step = 40 * backed.cost.training_flops
    for level in levels(study, label):
        planned = ALL[label].search_steps(study.recipe, level) * one_step
        row = rows[label, level, "ticket"]
        assert planned >= row.search_flops
        assert (planned > 0) == (row.search_flops > 0)
        assert label in LATER or planned - row.search_flops < one_step
        if label in ("imp-channels", "slimming-passes"):
            assert (planned == row.search_flops) == (level == 1), "trained in the large network first"


@every_method
def test_widths_are_known_beforehand_or_not_and_where_they_are_they_are_those_of_the_rows(declared, label):
    study, rows, _ = declared
    known = {"imp-channels", "imp-one-shot-channels-rewind-3", "soft-filters"}
    for level in levels(study, label):
        widths = ALL[label].widths(study.task, level)
        assert (widths is not None) == (label in known or "-filters" in label)
        row = rows[label, level, "ticket"]
        if widths is not None:
            assert dict(widths) == {site: kept for site, (kept, _) in row.widths.items()}
            assert row.density == pytest.approx(study.spec.methods[label].densities[level])
        else:
            assert bool(row.widths) == (ALL[label].units != "weights"), "what the search finds"


@every_method
def test_tickets_start_from_the_weights_that_the_method_says(declared, label):
    study, rows, backed = declared
    method, origin = ALL[label], ALL[label].origin
    assert study.spec.methods[label].origin == origin
    for level in levels(study, label):
        row = rows[label, level, "ticket"]
        ticket = kept(backed.store, row.id, method, study.task, lambda: backed.sites)
        start = state_digest(read_state(backed.start_of(ticket)))
        initial = state_digest(read_state(study.task.fresh(0)))
        assert row.curve.steps[0] == ticket.start_step
        if origin.weights == "initial":
            assert (ticket.start, start, ticket.start_step) == (Dense(0), initial, 0)
        elif origin.weights == "rewound":
            (there,) = [s.state() for s in backed.train(backed.dense(0), (origin.step,))]
            assert (ticket.start, start, ticket.start_step) == (Dense(origin.step), state_digest(there), 3)
        else:
            assert origin.trained
            assert isinstance(ticket.start, Handed | End) or ticket.start == Dense(8)
            assert start != initial
            assert origin.resumes == (label.startswith("early-bird"))
            assert not origin.resumes or 0 < ticket.start_step < 8, "the rest of the schedule"


@pytest.mark.parametrize(
    ("method", "words", "values"),
    [
        (IMP(), "initial weights", "initial values"),
        (IMP(rewind=500), "weights at step 500", "values at step 500"),
        (IMP(between="fine-tune"), "trained weights", "trained values"),
        (Slimming(), "trained weights", "trained values"),
    ],
    ids=lambda one: getattr(one, "label", one),
)
def test_what_the_weights_are_is_said_in_words(method, words, values):
    assert method.origin.words == words
    assert method.origin.of("values") == values


def test_of_a_model_that_was_brought_trained_weights_are_given_unless_tickets_train_them_on(tmp_path):
    task = dataclasses.replace(corners(), start=corners().fresh(3).state_dict())
    plans = Study(task, RECIPE, [IMP(), IMP(between="lr-rewind"), Slimming()], [], seeds=1, store=tmp_path).spec.methods
    assert {label: plan.origin.weights for label, plan in plans.items()} == {
        "imp": "given",
        "imp-lr-rewind": "trained",
        "slimming": "trained",
    }
    assert plans["imp"].origin.words == "weights that were brought"
