"""Tickets of whole units inherit trained weights, bit for bit - and promise what tickets of single weights promise."""

import copy
import dataclasses
from pathlib import Path

import pytest
import torch

from problems import bottlenecks, corners, find, found, one_thread, perceptron, trainings
from scratchcard.masks.compare import digest
from scratchcard.methods import METHODS
from scratchcard.methods.arms import ARMS
from scratchcard.methods.early_bird import EarlyBird
from scratchcard.methods.filters import FilterPruning
from scratchcard.methods.fit import refusal
from scratchcard.methods.slimming import Slimming
from scratchcard.methods.soft_filters import SoftFilterPruning
from scratchcard.networks.forward import read_state, state_digest
from scratchcard.study.jobs import run_chain, run_dense
from scratchcard.study.store import Store
from scratchcard.study.study import Study
from scratchcard.study.tickets import kept
from scratchcard.training.loop import train
from scratchcard.training.recipe import Recipe
from tiny_study import plain, started

RECIPE = Recipe(
    steps=12, optimizer="sgd", lr=0.05, momentum=0.9, batch_size=20, schedule="step", milestones=(6, 9), eval_every=12
)
TWO = {
    "slimming": Slimming(rounds=2, rate=0.3),
    "slimming, passes": Slimming(rounds=2, rate=0.3, passes=True, fine_tune_steps=4),
    "early-bird": EarlyBird(rounds=2, rate=0.4, every=1, patience=2, epsilon=0.2),
    "early-bird, window": EarlyBird(rounds=2, rate=0.4, every=1, patience=3, epsilon=0.2, reading="window"),
    "early-bird, late": EarlyBird(rounds=2, rate=0.4, every=1, patience=2, epsilon=0.2, draw="end"),
    "early-bird, 8 bits": EarlyBird(rounds=2, rate=0.4, every=1, patience=2, epsilon=0.2, precision="block8"),
    "l1-filters": FilterPruning(rounds=2, rate=0.4),
    "random-filters": FilterPruning("random", rounds=2, rate=0.4),
    "soft-filters": SoftFilterPruning(rounds=2, rate=0.4, every=3),
}
BASE = {label: TWO[label] for label in ("slimming, passes", "early-bird", "l1-filters", "soft-filters")}
every_method = pytest.mark.parametrize("method", TWO.values(), ids=TWO)
base_method = pytest.mark.parametrize("method", BASE.values(), ids=BASE)
NETWORKS = [(corners, method) for method in TWO.values()]
NETWORKS += [
    (network, dataclasses.replace(TWO[label], rate=0.3))
    for network, label in ((perceptron, "slimming"), (perceptron, "early-bird"), (bottlenecks, "slimming, passes"))
]


def trained_weights(backed, ticket):
    """What the method's search, or the dense training, left."""
    if ticket.weights is not None:
        return ticket.weights
    return next(backed.train(backed.dense(ticket.seed), (ticket.start.step,))).state()


def begins(backed, ticket):
    """The weights that a training really begins with, in the shapes of the large network."""
    return ticket.subnetwork.enlarged(next(backed.train(ticket, (ticket.start_step,))).state())


def places(ticket):
    """Of every tensor of the large network, which entries are left, by the places of the units that were cut."""
    sites = ticket.subnetwork.sites
    left = {name: torch.ones(shape, dtype=torch.bool) for name, shape in sites.shapes.items()}
    for site, units in ticket.subnetwork.mask.items():
        for unit in (~units).nonzero().flatten().tolist():
            for name, dims in sites[site].units[unit].items():
                for dim, at in dims.items():
                    left[name].index_fill_(dim, torch.as_tensor(at), False)
    return left


@pytest.mark.parametrize(("network", "method"), NETWORKS, ids=[f"{n.__name__}, {m.label}" for n, m in NETWORKS])
def test_a_ticket_begins_bitwise_with_the_trained_weights_where_it_keeps(network, method, tmp_path):
    backed, tickets = find(network(), RECIPE, method, tmp_path)
    fresh = read_state(network().fresh(0))
    for ticket in tickets:
        origin, start, left = trained_weights(backed, ticket), begins(backed, ticket), places(ticket)
        assert start.keys() == origin.keys()
        for name, value in start.items():
            there = left.get(name, torch.ones_like(value, dtype=torch.bool))
            assert torch.equal(value[there], origin[name][there]), f"{name} was not inherited"
            assert not value[~there].any()
            if value.dim() > 1:
                assert not torch.equal(value[there], fresh[name][there]), f"{name} is as it was drawn"


@base_method
def test_from_nothing_but_the_store_a_ticket_begins_with_the_same_weights(method, tmp_path):
    backed, tickets = find(corners(), RECIPE, method, tmp_path)
    again = trainings(corners(), RECIPE, method, Store(str(tmp_path)))
    for ticket in tickets:
        stored = kept(again.store, again.spec(ticket).id, method, corners(), lambda: again.sites)
        assert digest(stored.subnetwork.mask) == digest(ticket.subnetwork.mask)
        assert (stored.start, stored.start_step, stored.changes) == (ticket.start, ticket.start_step, ticket.changes)
        ours, theirs = (read_state(one.start_of(t)) for one, t in ((backed, ticket), (again, stored)))
        assert state_digest(ours) == state_digest(theirs)
        assert stored.search == ticket.search
        assert stored.search_flops == ticket.search_flops > 0


@pytest.mark.parametrize("method", [m for label, m in TWO.items() if label.startswith("early")], ids=lambda m: m.label)
def test_an_early_bird_goes_on_from_its_step_with_the_data_and_the_rates_of_that_step(method, tmp_path):
    backed, tickets = find(corners(), RECIPE, method, tmp_path)
    for ticket in tickets:
        at = ticket.search.emergence.emerged
        assert ticket.start_step == at
        assert 0 < at < 12
        recipe = backed.recipe_of(ticket)
        assert (recipe.milestones, recipe.steps, recipe.lr) == ((6, 9), 12, 0.05), "absolute steps"
        (end,) = [s.state() for s in backed.train(ticket, (12,))]
        by_hand = {}
        for begin in (at, 0):
            model = corners().fresh(0)
            model.load_state_dict(ticket.weights)
            small = ticket.subnetwork.trainable(model)
            asked = dataclasses.replace(RECIPE, scale_l1=1e-4)
            with one_thread():
                *_, last = train(small, corners().data, corners().loss_of, asked, 0, (12,), begin)
            by_hand[begin] = state_digest(last.state())
        assert state_digest(end) == by_hand[at] != by_hand[0]
        row = backed.store.row(backed.spec(ticket).id)
        assert row.curve.steps[0] == at
        dense = backed.cost.training_flops
        assert row.train_flops / (12 - at) / 20 < dense


@every_method
def test_a_search_costs_its_steps_at_the_dense_networks_price_and_leaves_nothing_but_the_ticket(method, tmp_path):
    rows = Study(corners(), RECIPE, [method], arms=[], seeds=1, store=tmp_path).run(workers=1, progress=False)
    dense = rows[0]
    per_step = dense.train_flops / 12
    searches = [row for row in rows if row.arm == "search"]
    assert len(searches) == (2 if method.label == "slimming-passes" else 1 if method.label == "slimming" else 0)
    for row in rows:
        assert row.training_seconds is not None
        assert (row.training_seconds > 0) == (row.train_flops > 0)
        if row.arm != "ticket":
            continue
        found_by = row.search.emergence
        if found_by is not None:
            assert row.search_flops == found_by.drawn * per_step
            assert row.search.seconds > 0
        elif method.label == "slimming-passes":
            assert row.search_flops >= dense.train_flops
        else:
            assert row.search_flops == dense.train_flops == 12 * per_step
    assert len(rows) == 1 + 2 + len(searches)
    ids = {row.id for row in rows}
    files = {path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()}
    assert {path.parts[1] for path in files if path.parts[0] == "snapshots"} <= ids
    assert {path.stem for path in files if path.parts[0] == "rows"} == ids
    tickets = {row.id for row in rows if row.arm == "ticket"}
    assert {path.stem for path in files if path.parts[0] == "tickets"} == tickets
    kept_files = [path for path in files if path.parts[0] not in ("rows", "tickets", "studies")]
    assert {path.parts[0] for path in kept_files} == {"snapshots", "store.json"}


@every_method
def test_the_same_seed_gives_the_same_tickets_bit_for_bit(method, tmp_path):
    seen = []
    for run in ("a", "b", "c"):
        torch.manual_seed(ord(run))  # the global random state plays no part
        backed, tickets = find(corners(), RECIPE, method, tmp_path / run, seed=1 if run == "c" else 0)
        seen.append([state_digest(read_state(backed.start_of(ticket))) for ticket in tickets])
        seen[-1] += [(digest(t.subnetwork.mask), t.start_step) for t in tickets]
    assert seen[0] == seen[1]
    assert not set(seen[0][:2]) & set(seen[2][:2]), "another seed has other weights"


@base_method
def test_the_users_model_random_state_and_threads_are_untouched(method, tmp_path):
    mine = corners().fresh(7)
    before = copy.deepcopy(mine.state_dict())
    task = dataclasses.replace(corners(), start=mine)
    every = [label for label in ARMS if not refusal(ARMS[label], method, task, RECIPE)]
    arms = every if isinstance(method, Slimming) else every[:1]
    torch.manual_seed(11)
    chance, threads = torch.get_rng_state(), torch.get_num_threads()
    study = Study(task, RECIPE, [method], arms, [2], seeds=1, store=tmp_path)
    assert {row.status for row in study.run(workers=1, progress=False)} == {"done"}
    assert torch.equal(torch.get_rng_state(), chance)
    assert torch.get_num_threads() == threads
    assert state_digest(mine.state_dict()) == state_digest(before)
    assert all(parameter.grad is None for parameter in mine.parameters())


class Interrupted(BaseException):
    """As if the program had been killed here."""


@base_method
def test_interrupted_anywhere_and_run_again_is_run_once(method, tmp_path, monkeypatch):
    def study(name):
        return Study(corners(), RECIPE, [method], ["scratch-e"], seeds=1, store=tmp_path / name)

    wanted = plain(study("once").run(workers=1, progress=False))
    writing = Store._write
    for stop in (2, 3, 5):
        written = []

        def write(self, file, content, written=written, stop=stop):
            written.append(file)
            if len(written) == stop + 1:
                raise Interrupted
            writing(self, file, content)

        monkeypatch.setattr(Store, "_write", write)
        with pytest.raises(Interrupted):
            study("again").run(workers=1, progress=False)
    monkeypatch.undo()
    assert plain(study("again").run(workers=1, progress=False)) == wanted
    assert started(study("again")) == 0


def test_one_process_and_two_leave_the_same_rows(tmp_path: Path):
    methods = [dataclasses.replace(TWO[label], rounds=1) for label in ("slimming", "early-bird")]

    def study(name):
        return Study(corners(), RECIPE, methods, ["scratch-e"], seeds=1, store=tmp_path / name)

    one = plain(study("one").run(workers=1, progress=False))
    assert {row["status"] for row in one} == {"done"}
    assert one == plain(study("two").run(workers=2, progress=False))


def test_a_ticket_found_again_is_left_as_it_lies(tmp_path):
    method = TWO["early-bird"]
    backed, _ = find(corners(), RECIPE, method, tmp_path)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "tickets").iterdir()}
    list(found(backed, method))
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "tickets").iterdir()}


def test_a_search_that_diverges_or_fails_ends_its_chain_with_a_sentence_and_rows_and_not_the_study(tmp_path):
    def loss(outputs, targets):
        value = torch.nn.functional.cross_entropy(outputs, targets)
        if torch.is_grad_enabled() and accident and float(value.detach()) < 1.35:
            if accident[0] == "raises":
                raise RuntimeError("an accident\nin two lines")
            return value * torch.nan
        return value

    task, accident = dataclasses.replace(corners(), loss=loss), []
    accidents = (("raises", "failed", "RuntimeError: an accident in two lines"), ("nan", "diverged", "by step"))
    for what, status, cause in accidents:
        study = Study(task, RECIPE, [TWO["early-bird"]], arms=["scratch-e"], seeds=1, store=tmp_path / what)
        backed, told = study.trainings(Store(tmp_path / what)), []
        run_dense(backed, study, 0)
        accident[:] = [what]
        assert list(run_chain(backed, study, "early-bird", 0, told.append)) == [], "no ticket"
        (sentence,) = told
        assert sentence.startswith(f"the search of early-bird, level 1, seed 0, {status}: {cause}")
        assert len(sentence.splitlines()) == 1
        rows = study.run(workers=1, progress=False)
        assert [(row.level, row.arm, row.status) for row in rows] == [
            (0, "dense", "done"),
            (1, "ticket", status),
            (2, "ticket", status),
        ]
        assert {row.message for row in rows[1:]} == {sentence.split(f"{status}: ")[1]}, "the cause alone"
        assert not any(row.found for row in rows[1:])
        accident.clear()
        again = study.run(workers=1, progress=False)
        # what failed is tried again, once its cause is gone; what diverged is an outcome, and would diverge again
        assert {row.status for row in again} == ({"done"} if what == "raises" else {"done", "diverged"})
        assert len(again) == (5 if what == "raises" else 3)


@pytest.mark.parametrize("label", ["early-bird", "l1-filters"])
def test_tickets_that_could_not_be_found_have_rows_at_the_planned_densities_and_no_curve(label, tmp_path):
    def diverges(outputs, targets):
        return torch.nn.functional.cross_entropy(outputs, targets) * (torch.nan if torch.is_grad_enabled() else 1.0)

    method, asked = TWO[label], []
    task = dataclasses.replace(corners(), loss=diverges)
    study = Study(task, RECIPE, [method], arms=["scratch-e"], seeds=1, store=tmp_path)
    with pytest.MonkeyPatch.context() as patch:  # that one batch of it is no number would be said beforehand
        patch.setattr(Study, "check", lambda self: None)
        dense, *tickets = study.run(workers=1, progress=False)
        assert (dense.status, dense.found, [row.level for row in tickets]) == ("diverged", True, [1, 2])
        patch.setattr("scratchcard.study.jobs.search", lambda *_: asked.append("search") or iter(()))
        assert started(study) == 0
    assert not asked, "what diverged is not searched again"
    for row in tickets:
        assert (row.status, row.found, row.arm) == ("diverged", False, "ticket")
        assert row.density == method.densities(task)[row.level]
        assert (row.curve.steps, row.end, row.snapshots, row.train_flops) == ([], None, {}, 0)
        assert row.message.startswith("by step" if label == "early-bird" else "the training loss was nan by step")
        assert row.method_fields["rounds"] == 2
    assert not Store(tmp_path).ticket_ids()
    assert len(study.rows()) == 3, "controls of what was never found have no rows"


def test_every_method_the_command_line_knows_works_on_whole_units(tmp_path):
    ours = [method for method in METHODS.values() if method.units != "weights"]
    labels = {"slimming", "early-bird", "early-bird-window", "early-bird-drawn-at-end", "l1-filters", "l2-filters"}
    labels |= {"random-filters", "l1-filters-smallest", "soft-filters", "imp-channels"}
    assert {method.label for method in ours} == labels
    recipe = dataclasses.replace(RECIPE, batch_size=60)  # two steps per epoch
    ours = [dataclasses.replace(m, patience=3, epsilon=0.2) if isinstance(m, EarlyBird) else m for m in ours]
    ours = [dataclasses.replace(method, rounds=1) for method in ours]
    rows = Study(corners(), recipe, ours, arms=[], seeds=1, store=tmp_path).run(workers=1, progress=False)
    assert {row.status for row in rows} == {"done"}
    assert {row.method for row in rows if row.arm == "ticket"} == labels
