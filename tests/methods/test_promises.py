"""What every method and every control promises, on tasks whose answer is known."""

import copy
import dataclasses
from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.func import functional_call

from problems import TASKS, find, found, planted, regression
from scratchcard.masks.compare import density, digest, nested
from scratchcard.masks.select import shuffle
from scratchcard.methods import METHODS
from scratchcard.methods.arms import ARMS
from scratchcard.methods.imp import IMP
from scratchcard.methods.ticket import Ticket
from scratchcard.networks.forward import call, read_state, state_digest
from scratchcard.networks.subnetwork import MaskedWeights
from scratchcard.study.jobs import run_chain
from scratchcard.study.store import Store
from scratchcard.study.study import Study
from scratchcard.training.data import Data
from scratchcard.training.loop import train
from scratchcard.training.recipe import Recipe
from scratchcard.training.task import Task

SHORT = Recipe(steps=6, lr=0.01, batch_size=16, eval_every=6)
VARIANTS = {
    **{
        label: dataclasses.replace(method, rounds=3)
        for label, method in METHODS.items()
        if "only" not in label and method.units == "weights"  # of whole units: see below
    },
    "imp, one-shot": IMP(rounds=3, one_shot=True),
    "imp, global": IMP(rounds=3, scope="global", rate=0.4),
    "imp, rewound": IMP(rounds=3, rewind=2),
    "imp, global, rewound, rates": IMP(rounds=3, rewind=5, rate={"linear": 0.5, "output": 0.1, "conv": 0.2}),
}
every_method = pytest.mark.parametrize("method", VARIANTS.values(), ids=VARIANTS)
REWINDING = {
    name: method for name, method in VARIANTS.items() if not (isinstance(method, IMP) and method.origin.trained)
}
every_task = pytest.mark.parametrize("task", [make() for make in TASKS.values()], ids=TASKS)
FRESH = ("fresh-init", "random-mask-layerwise", "random-mask-global")
DRAWN = {label: ARMS[label] for label in (*FRESH, "random-mask-global-same-steps")}
every_arm = pytest.mark.parametrize("arm", DRAWN.values(), ids=DRAWN)


def bits(tensor):
    return tensor.contiguous().view(torch.uint8)


def dense_of(ticket):
    whole = {name: torch.ones_like(kept) for name, kept in ticket.subnetwork.mask.items()}
    return Ticket(None, ticket.seed, 0, MaskedWeights(whole), ticket.prunable)


def states(backed, ticket, *steps):
    return [snapshot.state() for snapshot in backed.train(ticket, steps)]


def assert_is_cut_from(start, origin, mask):
    """Bitwise the origin's weights where kept (and in biases and statistics), bitwise zero where cut."""
    assert start.keys() == origin.keys()
    for name, tensor in start.items():
        kept = mask.get(name, torch.ones_like(tensor, dtype=torch.bool))
        assert tensor.dtype == origin[name].dtype
        assert torch.equal(bits(tensor[kept]), bits(origin[name][kept])), f"{name} was changed where it is kept"
        assert not bits(tensor[~kept]).any(), f"{name} is not zero where it is cut"


@every_method
@every_task
def test_the_same_seed_gives_the_same_tickets_bit_for_bit(task, method, tmp_path):
    ids = []
    for run in ("a", "b", "c"):
        torch.manual_seed(ord(run))  # the global random state plays no part
        backed, tickets = find(task, SHORT, method, tmp_path / run, seed=1 if run == "c" else 0)
        ends = [state_digest(states(backed, t, SHORT.steps)[0]) for t in tickets[:1]]
        ids.append([*(digest(t.subnetwork.mask) for t in tickets), *ends])
    assert ids[0] == ids[1]
    assert not set(ids[0]) & set(ids[2]), "another seed finds other tickets"


@every_method
@every_task
def test_densities_are_exactly_those_of_the_schedule_and_masks_are_nested(task, method, tmp_path):
    _, tickets = find(task, SHORT, method, tmp_path)
    masks = [ticket.subnetwork.mask for ticket in tickets]
    assert [1.0, *map(density, masks)] == method.densities(task)
    assert [ticket.level for ticket in tickets] == list(range(1, len(masks) + 1))
    if isinstance(method, IMP) or method.iterations == 1:  # else every level is found anew, by scores of its own
        assert all(nested(inner, outer) for outer, inner in pairwise(masks))
    weights = {weight.name: weight for weight in method.weights(task)}
    for name, kept in masks[-1].items():
        assert weights[name].prunable or kept.all()
        assert kept.any()


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("method", REWINDING.values(), ids=REWINDING)
def test_rewound_weights_are_bitwise_the_originals_at_every_level(method, precision, tmp_path):
    for name, make in TASKS.items():
        task, recipe = make(), dataclasses.replace(SHORT, precision=precision)
        backed, tickets = find(task, recipe, method, tmp_path / name)
        step = tickets[0].start_step
        (origin,) = states(backed, dense_of(tickets[0]), step)
        if step == 0:
            fresh = task.fresh(0).to(torch.float64 if precision == "float64" else None)
            assert state_digest(origin) == state_digest(read_state(fresh))
        for ticket in tickets:
            (start,) = states(backed, ticket, step)
            assert_is_cut_from(start, origin, ticket.subnetwork.mask)


@every_arm
@every_task
def test_a_control_starts_bitwise_from_its_own_draw_and_is_cut_by_its_own_mask(task, arm, tmp_path):
    method = IMP(rounds=2, rewind=2, scope="global")
    study = Study(task, SHORT, methods=[method], arms=[arm], seeds=1)
    backed = study.trainings(Store(tmp_path))
    *_, ticket = found(backed, method)
    for control in arm(ticket, SHORT, 0, task):
        assert not control.changes
        assert density(control.subnetwork.mask) == density(ticket.subnetwork.mask)
        assert control.start_step == (2 if "same-steps" in arm.label else 0)
        start, end = states(backed, control, control.start_step, 6)
        assert_is_cut_from(start, read_state(task.fresh(control.start.seed)), control.subnetwork.mask)
        assert state_digest(end) != state_digest(start)
        again = study.trainings(Store(tmp_path / f"again {control.replicate}"))
        (control_again,) = [made for made in arm(ticket, SHORT, 0, task) if made.replicate == control.replicate]
        assert state_digest(states(again, control_again, 6)[0]) == state_digest(end)


OPTIMIZERS = {
    "sgd with momentum": {"optimizer": "sgd", "momentum": 0.9},
    "nesterov": {"optimizer": "sgd", "momentum": 0.9, "nesterov": True},
    "adam": {"optimizer": "adam"},
    "adamw": {"optimizer": "adamw"},
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
@every_task
def test_zeros_are_bitwise_zero_after_training_with_weight_decay(task, optimizer, tmp_path):
    recipe = Recipe(steps=8, lr=0.01, batch_size=16, eval_every=8, weight_decay=0.1, **optimizer)
    backed, tickets = find(task, recipe, IMP(rounds=2, rate=0.5), tmp_path)
    for ticket in tickets:
        (end,) = states(backed, ticket, 8)
        for name, kept in ticket.subnetwork.mask.items():
            assert not bits(end[name][~kept]).any()
            assert end[name][kept].count_nonzero() == kept.sum(), "what is kept is not zero"


@every_method
@every_task
def test_trained_viewed_and_shipped_are_one_function(task, method, tmp_path):
    _, tickets = find(task, SHORT, method, tmp_path)
    recipe, inputs = dataclasses.replace(SHORT, precision="float64"), task.example_inputs(16)
    inputs = inputs.double() if inputs.is_floating_point() else inputs
    for ticket in tickets:
        trained = ticket.subnetwork.trainable(task.fresh(0))
        for _ in train(trained, task.data, task.loss_of, recipe, 0, (6,)):
            pass
        trained.eval()
        with torch.no_grad():
            outputs = call(trained, inputs)
            shipped = call(ticket.subnetwork.ship(trained), inputs)
            original = task.fresh(1).double().eval()
            viewed = functional_call(original, ticket.subnetwork.view(trained), inputs)
        for other in (shipped, viewed):
            torch.testing.assert_close(other, outputs, rtol=1e-12, atol=1e-300)


def test_data_in_float64_can_be_studied_with_a_recipe_in_float64(tmp_path):
    x = torch.randn(40, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    half = (x[:20], x[:20, :1]), (x[20:], x[20:, :1])
    task = dataclasses.replace(regression(), data=Data.from_tensors("float64", *half, validation=half[1]))
    study = Study(task, dataclasses.replace(SHORT, precision="float64"), [IMP(rounds=1)], seeds=1, store=tmp_path)
    assert {row.status for row in study.run(workers=1, progress=False)} == {"done"}


class Watched(nn.Module):
    """A user's model with a gradient, hooks and a counter of its calls."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(16, 12), nn.Dropout(0.2), nn.Linear(12, 1))

    def forward(self, x):
        return self.inner(x)


@every_method
@pytest.mark.parametrize("as_state", [False, True])
def test_the_users_model_and_random_state_are_untouched(method, as_state, tmp_path):
    mine = Watched()
    hook = mine.register_forward_hook(lambda *_: None)
    mine(torch.ones(3, 16)).sum().backward()
    before = copy.deepcopy(mine.state_dict())
    gradients = {name: p.grad.clone() for name, p in mine.named_parameters()}
    if isinstance(method, IMP) and method.rewind:  # a given model has no training to be rewound into
        method = dataclasses.replace(method, rewind=0)
    task = Task("mine", Watched, regression().data, "mse", "mse", start=mine.state_dict() if as_state else mine)
    torch.manual_seed(11)
    chance = torch.get_rng_state()
    arms = ["scratch-e", "noise-1"] if method.origin.trained else ["fresh-init", "random-mask-global"]
    study = Study(task, SHORT, methods=[method], arms=arms, seeds=1, store=tmp_path)
    backed = study.trainings(Store(tmp_path))
    told = []
    for _ in run_chain(backed, study, method.label, 0, told.append):
        assert torch.equal(torch.get_rng_state(), chance)
    assert not told
    for ticket in found(backed, method):
        for arm in study.controls:
            for control in arm(ticket, SHORT, 0, task):
                states(backed, control, 6)
        if method in REWINDING.values():
            (start,) = states(backed, ticket, 0)
            assert_is_cut_from(start, before, ticket.subnetwork.mask)
    assert torch.equal(torch.get_rng_state(), chance)
    assert state_digest(mine.state_dict()) == state_digest(before)
    assert all(torch.equal(p.grad, gradients[name]) for name, p in mine.named_parameters())
    assert list(mine._forward_hooks) == [hook.id]
    assert not any(p._post_accumulate_grad_hooks or p._backward_hooks for p in mine.parameters())
    assert mine.training


# decoupled weight decay fades what the data do not need, so that magnitude means importance
LEARNS = Recipe(steps=300, lr=0.01, optimizer="adamw", weight_decay=1.0, batch_size=50, eval_every=300)
SEARCHES = [IMP(rounds=8, keep=("output",)), IMP(rounds=8, scope="global"), IMP(rounds=8, scope="global", rewind=20)]


@pytest.mark.parametrize("method", SEARCHES, ids=["layer-wise", "global", "global, rewound"])
def test_the_planted_structure_is_found_far_better_than_by_chance(method, tmp_path):
    """Hidden units can be permuted, so what counts is which inputs are read: the teacher reads 4 of 16."""
    task, read = planted()
    for seed in (0, 1):
        *_, ticket = find(task, LEARNS, method, tmp_path / str(seed), seed)[1]
        mask = ticket.subnetwork.mask
        random = shuffle(mask, ticket.prunable, "layer", torch.Generator().manual_seed(seed))
        for share in (lambda kept: kept[:, read].sum() / kept.sum(), lambda kept: kept[:, read].float().mean()):
            assert share(mask["0.weight"]) > 2 * share(random["0.weight"])
        assert share(random["0.weight"]) < 0.3
        assert mask["0.weight"][:, read].sum() > 0.75 * mask["0.weight"].sum()
