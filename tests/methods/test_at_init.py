"""Pruning at initialisation keeps what its score says, at the declared densities, without training anything."""

from dataclasses import replace
from itertools import pairwise
from math import inf, nan

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from problems import TASKS, digits, next_token, noise, planted, regression
from scratchcard.masks.allocate import allocate
from scratchcard.masks.compare import counts, density, nested
from scratchcard.masks.schedule import SHARES, survivors
from scratchcard.masks.select import select, shuffle
from scratchcard.methods import METHODS
from scratchcard.methods.at_init import AtInit
from scratchcard.methods.ticket import Dense
from scratchcard.networks.forward import state_digest
from scratchcard.networks.subnetwork import MaskedWeights
from scratchcard.networks.weights import whole
from scratchcard.networks.zoo import vgg_11
from scratchcard.training.data import Data
from scratchcard.training.evaluate import evaluate
from scratchcard.training.loop import train
from scratchcard.training.recipe import Recipe
from scratchcard.training.scores import SCORES
from scratchcard.training.task import Task

SHORT = Recipe(steps=6, lr=0.01, batch_size=16, eval_every=6)
NAMED = {label: replace(method, rounds=6) for label, method in METHODS.items() if isinstance(method, AtInit)}
every_named = pytest.mark.parametrize("method", NAMED.values(), ids=NAMED)
every_task = pytest.mark.parametrize("task", [make() for make in TASKS.values()], ids=TASKS)


def not_asked(*_):
    raise AssertionError("nothing is trained to find these tickets")


def find(method, task, seed=0, recipe=SHORT):
    return list(method.find(task, recipe, seed, not_asked))


def scored(method, task, seed=0, mask=None, recipe=SHORT):
    """Scores of the weights that the method may cut, and the mask of everything."""
    found = method.weights(task)
    everything = whole(found)
    scores = SCORES[method.score](task.at_start(seed), mask or everything, task, recipe, seed, method.look)
    return {weight.name: scores[weight.name] for weight in found if weight.prunable}, everything


def kept_of(mask, scores):
    return {name: int(mask[name].sum()) for name in scores}


@every_named
@every_task
def test_densities_are_as_declared_and_the_score_is_turned_upside_down_at_the_same_counts(method, task):
    tickets = find(method, task)
    masks = [ticket.subnetwork.mask for ticket in tickets]
    assert [1.0, *map(density, masks)] == method.densities(task)
    assert [ticket.level for ticket in tickets] == [1, 2, 3, 4, 5, 6]
    prunable = {weight.name for weight in method.weights(task) if weight.prunable}
    for ticket in tickets:
        assert ticket.start == Dense(0)
        assert set(ticket.prunable) == prunable
        assert counts(ticket.inverse) == counts(ticket.subnetwork.mask)
        for name, kept in ticket.subnetwork.mask.items():
            assert kept.any()
            assert name in prunable or (kept.all() and ticket.inverse[name].all())
    if method.iterations == 1:
        scores, _ = scored(method, task)
        assert all(nested(inner, outer) for outer, inner in pairwise(masks))
        for ticket in tickets:
            for name, score in scores.items():
                low, mask = ticket.inverse[name], ticket.subnetwork.mask[name]
                if not mask.all():
                    assert score[low].max() <= score[~low].min(), "the inverse keeps the lowest scores"
                    assert score[mask].min() >= score[~mask].max(), "the ticket the highest"


def test_iterative_tickets_are_cut_anew_at_every_level_and_need_not_be_nested():
    masks = [ticket.subnetwork.mask for ticket in find(NAMED["synflow"], next_token(), seed=1)]
    assert not all(nested(inner, outer) for outer, inner in pairwise(masks))
    deepest = find(AtInit("synflow", rounds=1, rate=1 - 0.8**6), next_token(), seed=1)
    assert density(deepest[0].subnetwork.mask) == density(masks[-1])
    assert all(torch.equal(deepest[0].subnetwork.mask[name], kept) for name, kept in masks[-1].items())


@pytest.mark.parametrize("scope", SHARES)
@pytest.mark.parametrize("score", SCORES)
def test_every_scope_shares_out_a_level_as_it_says(score, scope):
    task = digits()
    method = AtInit(score, rounds=5, scope=scope, iterations=1, rate=0.5)
    scores, everything = scored(method, task)
    shapes = {name: tuple(tensor.shape) for name, tensor in scores.items()}
    sizes = {name: tensor.numel() for name, tensor in scores.items()}
    for ticket in find(method, task):
        mask, done = ticket.subnetwork.mask, ticket.level
        total = survivors(sum(sizes.values()), 0.5, done)
        if scope == "layer":
            keep = {name: survivors(size, 0.5, done) for name, size in sizes.items()}
        else:
            keep = total if scope == "global" else allocate(shapes, total, scope)
        assert all(torch.equal(mask[name], kept) for name, kept in select(scores, keep, everything).items())
        if scope == "global":
            assert sum(kept_of(mask, scores).values()) == total
            second = [score[mask[name]].sort(descending=True).values[1:] for name, score in scores.items()]
            worst = min(float(part.min()) for part in second if len(part))
            assert all(float(score[~mask[name]].max()) <= worst for name, score in scores.items())


@pytest.mark.parametrize("scope", ["layer", "global", "erk"])
@pytest.mark.parametrize("score", ["magnitude", "random"])
def test_a_score_that_never_changes_cuts_the_same_in_one_step_as_in_many(score, scope):
    task = digits()
    once, often = (find(AtInit(score, rounds=4, rate=0.5, scope=scope, iterations=n), task) for n in (1, 7))
    for one, other in zip(once, often, strict=True):
        mask = other.subnetwork.mask
        assert all(torch.equal(kept, mask[name]) for name, kept in one.subnetwork.mask.items())


@pytest.mark.parametrize("scope", SHARES)
def test_iterations_score_what_is_left_at_densities_that_fall_exponentially(scope, monkeypatch):
    """Tanaka et al. 2020, alg. 1: iteration k of n leaves the share density^(k / n), scored under the mask so far."""
    task, seen = regression(), []

    def spy(model, mask, *others):
        seen.append({name: kept.clone() for name, kept in mask.items()})
        return SCORES["snip"](model, mask, *others)

    monkeypatch.setitem(SCORES, "magnitude", spy)
    method = AtInit("magnitude", rounds=1, rate=0.9, scope=scope, iterations=4)
    (ticket,) = find(method, task)
    masks = [*seen, ticket.subnetwork.mask]
    assert len(masks) == 5
    numbers = [{name: int(mask[name].sum()) for name in mask} for mask in masks]
    if scope == "global":
        numbers = [{"all": sum(number.values())} for number in numbers]
        assert numbers[-1]["all"] == survivors(numbers[0]["all"], 0.9)
    for name, size in numbers[0].items():
        for done, number in enumerate(numbers):
            assert abs(number[name] - size * (numbers[-1][name] / size) ** (done / 4)) <= 0.5
    for inner, outer in zip(masks[1:], masks, strict=False):
        assert nested(inner, outer)
        scores = SCORES["snip"](task.at_start(0), outer, task, SHORT, 0, method.look)
        keep = sum(kept_of(inner, scores).values()) if scope == "global" else kept_of(inner, scores)
        assert all(torch.equal(kept, inner[name]) for name, kept in select(scores, keep, outer).items())


@every_named
def test_a_ticket_is_a_function_of_the_seed_and_of_the_weights_it_is_given(method):
    task = regression()
    given = Task("given", task.model, task.data, "mse", "mse", start=task.fresh(5))
    before = state_digest(given.at_start(0).state_dict())
    torch.manual_seed(3)
    chance = torch.get_rng_state()
    first, again, other = (find(replace(method, rounds=2), task, seed) for seed in (0, 0, 1))
    (start, *_) = find(replace(method, rounds=2), given)
    assert torch.equal(torch.get_rng_state(), chance)
    assert state_digest(given.at_start(0).state_dict()) == before
    same = [
        all(torch.equal(first[0].subnetwork.mask[name], kept) for name, kept in ticket.subnetwork.mask.items())
        for ticket in (again[0], other[0], start)
    ]
    assert same == [True, False, method.score == "random"], "the weights matter, but to chance"


@pytest.mark.parametrize(
    ("score", "changed"), [("snip", {"mode": "train"}), ("grasp", {"mode": "inference"}), ("grasp", {"temperature": 1})]
)
def test_mode_and_temperature_reach_the_score_and_change_the_ticket(score, changed):
    task = noise()
    usual, other = (AtInit(score, rounds=1, rate=0.5, examples=64, **fields) for fields in ({}, changed))
    found = [find(method, task)[0].subnetwork.mask for method in (usual, other)]
    assert any(not torch.equal(found[0][name], kept) for name, kept in found[1].items())
    scores, everything = scored(other, task)
    keep = sum(kept_of(found[1], scores).values())
    assert all(torch.equal(found[1][name], kept) for name, kept in select(scores, keep, everything).items())


def test_a_method_is_named_by_what_is_unusual_about_it():
    labels = {
        "snip": AtInit("snip", scope="global", iterations=1),
        "snip-layer": AtInit("snip", scope="layer"),
        "snip-train": AtInit("snip", mode="train"),
        "grasp-inference": AtInit("grasp", mode="inference"),
        "grasp-temperature-1": AtInit("grasp", temperature=1),
        "grasp-iterations-2-inference-temperature-0.5-only-conv": AtInit(
            "grasp", iterations=2, mode="inference", temperature=0.5, only=("conv",)
        ),
        "synflow": AtInit("synflow", iterations=100),
        "synflow-erk-iterations-3": AtInit("synflow", scope="erk", iterations=3),
        "magnitude-at-init": AtInit("magnitude", scope="layer"),
        "magnitude-at-init-global": AtInit("magnitude", scope="global"),
        "random-at-init-uniform": AtInit("random", scope="uniform"),
        "grasp-only-conv-output": AtInit("grasp", only=("conv", "output")),
    }
    assert {label: method.label for label, method in labels.items()} == {label: label for label in labels}
    assert AtInit("snip") == labels["snip"], "what is usual and what is written out are one method"
    assert AtInit("snip") == AtInit("snip", mode="inference")
    assert AtInit("grasp") == AtInit("grasp", mode="train")
    assert repr(AtInit("grasp", temperature=1)) == repr(AtInit("grasp", temperature=1.0)), "one identity"
    assert AtInit("synflow") == labels["synflow"]
    assert [label for label in METHODS if label in NAMED] == [method.label for method in NAMED.values()]


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"score": "snp"}, r"unknown score 'snp'; did you mean 'snip'\? known: grasp, magnitude"),
        ({"scope": "globe"}, r"unknown scope 'globe'; did you mean 'global'\?"),
        ({"iterations": 0}, r"AtInit needs iterations of at least 1, got iterations=0"),
        ({"examples": 0}, r"AtInit needs examples of at least 1, got examples=0"),
        ({"mode": "eval"}, r"unknown mode 'eval'; .*known: inference, train"),
        *[
            ({"score": score, "mode": "train"}, rf"a mode only for snip and grasp, .* got mode='train' for {score}")
            for score in ("magnitude", "synflow", "random")
        ],
        *[
            ({"score": score, "temperature": 2}, rf"a temperature only for grasp, got temperature=2 for {score}")
            for score in ("magnitude", "snip", "synflow", "random")
        ],
        *[
            ({"score": "grasp", "temperature": wrong}, rf"needs a positive temperature, got temperature={wrong}")
            for wrong in (0, -1.0, inf, nan)
        ],
        ({"rounds": 0}, r"AtInit needs at least one round, got rounds=0"),
        ({"rate": 1.0}, r"AtInit removes a fraction between 0 and 1 .* got rate=1.0"),
        ({"rate": {"conv": 0.2, "linear": 0.0}}, r"between 0 and 1 .* got rate=\{'conv': 0.2, 'linear': 0.0\}"),
        ({"rate": {"liner": 0.2}}, r"unknown kind of weight 'liner'; did you mean 'linear'\?"),
    ],
)
def test_hyperparameters_that_mean_nothing_are_refused_in_a_sentence(fields, sentence):
    with pytest.raises(ValueError, match=sentence):
        AtInit(**{"score": "snip", **fields})


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"only": ("attention",)}, r"unknown .* 'attention'; known: 0, 0.weight, 3, .*conv, linear, output"),
        (
            {"rate": {"recurrent": 0.2}},
            r"AtInit's rates are for recurrent, but what can be cut .* conv, linear, output$",
        ),
        ({"rate": {"conv": 0.2}, "only": ("output",)}, r"rates are for conv, but .* and AtInit is to cut only output"),
        ({"keep": ("*.wight",)}, r"unknown .* '\*.wight'; did you mean '5.weight'"),
    ],
)
def test_patterns_that_leave_nothing_to_cut_are_refused_in_a_sentence(fields, sentence):
    with pytest.raises(ValueError, match=sentence):
        AtInit("random", **fields).check(digits(), SHORT)


def test_only_what_may_be_cut_is_cut_and_counted():
    task = digits()  # 0.weight conv 36, 3.weight linear 1024, 5.weight output 160
    method = AtInit("snip", rounds=2, rate={"conv": 0.5, "linear": 0.9}, keep=("0.*",))
    for ticket, linear in zip(find(method, task), (102, 10), strict=True):
        assert counts(ticket.subnetwork.mask) == {
            "0.weight": (36, 36),
            "3.weight": (linear, 1024),
            "5.weight": (160, 160),
        }
    reasons = {weight.name: weight.reason for weight in method.weights(task)}
    assert "keep" in reasons["0.weight"]
    assert "no rate for kind 'output'" in reasons["5.weight"]
    assert AtInit("snip", only=("3.*",)).densities(task)[1] == (36 + 819 + 160) / 1220


class Silent(nn.Module):
    """Its last layer starts from zero, so no gradient reaches the first."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(16, 8), nn.Linear(8, 1)
        nn.init.zeros_(self.last.weight)

    def forward(self, x):
        return self.last(self.first(x).relu())


class Exploding(Silent):
    """Its outputs are finite in evaluation, its gradients are not."""

    def forward(self, x):
        return super().forward(x) + (self.first(x).sum(1, keepdim=True) * 0).abs().sqrt()


class Once(torch.autograd.Function):
    """The sine, as people write functions of their own."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.sin()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        return gradient * ctx.saved_tensors[0].cos()


class Marked(nn.Module):
    """It says of itself that it can be differentiated once only."""

    def __init__(self):
        super().__init__()
        self.line = nn.Linear(16, 1)

    def forward(self, x):
        return Once.apply(self.line(x))


class Aligned(Marked):
    """It calculates what torch can differentiate once only."""

    def forward(self, x):
        scores = torch.stack([self.line(x), -self.line(x)]).expand(2, -1, 3)
        one = torch.ones(len(x), 1, dtype=torch.int64)
        return F.ctc_loss(scores.log_softmax(2), one, 2 * one[:, 0], one[:, 0], reduction="none")[:, None]


@pytest.mark.parametrize(
    ("score", "model", "sentence"),
    [
        ("snip", Silent, r"the snip score of every weight is 0 .* task 'odd'.*last layer start from zero"),
        ("synflow", Silent, r"the synflow score of every weight is 0"),
        ("snip", Exploding, r"the snip score of first.weight is not finite in the network of task 'odd'"),
        ("grasp", Aligned, r"the grasp score cannot be calculated .* task 'odd' \(derivative .* not implemented\)"),
        ("grasp", Marked, r"the grasp score cannot be calculated .* task 'odd' \(.*differentiate twice.*; use another"),
    ],
)
def test_a_network_that_a_score_says_nothing_about_is_refused_in_a_sentence(score, model, sentence):
    task = Task("odd", model, regression().data, "mse", "mse")
    with pytest.raises(ValueError, match=sentence):
        AtInit(score).check(task, SHORT)


class Attention(nn.Module):
    """Fused attention, which torch can differentiate once only."""

    def __init__(self):
        super().__init__()
        self.into, self.out = nn.Linear(4, 12), nn.Linear(4, 1)

    def forward(self, x):
        q, k, v = self.into(x.view(-1, 4, 4)).chunk(3, dim=-1)
        return self.out(F.scaled_dot_product_attention(q[:, None], k[:, None], v[:, None]).squeeze(1)).mean(1)


@every_named
def test_every_score_can_be_had_of_a_network_with_attention(method):
    task = Task("attention", Attention, regression().data, "mse", "mse")
    method.check(task, SHORT)
    assert len(find(replace(method, rounds=2), task)) == 2


@pytest.mark.parametrize("score", SCORES)
def test_the_price_of_a_score_is_what_it_computes(score, monkeypatch):
    calculate, spent = SCORES[score], []

    def counted(*arguments):
        with FlopCounterMode(display=False) as counter:
            scores = calculate(*arguments)
        spent.append(counter.get_total_flops())
        return scores

    monkeypatch.setitem(SCORES, score, counted)
    method = AtInit(score, rounds=1, examples=64, iterations=3)
    (ticket,) = find(method, images(0.125), recipe=replace(SHORT, batch_size=32))
    assert len(spent) == 3
    # GraSP's passes are counted in whole ones, a little above what is done
    assert ticket.scoring_flops == pytest.approx(sum(spent), rel=0.02 if score == "grasp" else 1e-9)
    assert (sum(spent) == 0) == (score in ("magnitude", "random"))


def images(width):
    chance = torch.Generator().manual_seed(0)
    pair = torch.randn(64, 3, 16, 16, generator=chance), torch.randint(0, 10, (64,), generator=chance)
    return Task("images", lambda: vgg_11(width=width), Data.from_tensors("images", pair, pair, pair))


def plainly(scores, within, keep):
    """The highest scores of all layers together within the mask, and no layer protected."""
    flat = torch.cat([scores[name].masked_fill(~within[name], float("-inf")).flatten() for name in scores])
    top = torch.zeros(len(flat), dtype=torch.bool)
    top[flat.topk(keep).indices] = True
    parts = top.split([score.numel() for score in scores.values()])
    return {name: part.view(score.shape) for (name, score), part in zip(scores.items(), parts, strict=True)}


def test_synflow_collapses_no_layer_of_vgg_11_where_one_shot_scores_do():
    """Tanaka et al. 2020, section 4: scoring again as one cuts never empties a layer, even with none protected."""
    task, recipe = images(0.25), Recipe(batch_size=32)
    size = sum(weight.size for weight in AtInit("synflow").weights(task))
    fewest = {}
    for target in (0.01, 0.001):
        method = AtInit("synflow", rounds=1, rate=1 - target)
        mask = whole(method.weights(task))
        assert density(mask) == 1
        for done in range(1, 101):
            scores, _ = scored(method, task, mask=mask, recipe=recipe)
            mask = plainly(scores, mask, round(size * (round(size * target) / size) ** (done / 100)))
        fewest["synflow", target] = min(kept_of(mask, scores).values())
        if target == 0.01:  # and so the method, which protects them, has nothing to protect
            (ticket,) = find(method, task, recipe=recipe)
            assert all(torch.equal(mask[name], kept) for name, kept in ticket.subnetwork.mask.items())
        for one in (AtInit("magnitude"), AtInit("snip"), AtInit("snip", mode="train"), AtInit("grasp")):
            scores, everything = scored(one, task, recipe=recipe)
            kept = plainly(scores, everything, round(size * target))
            fewest[one.label, target] = min(kept_of(kept, scores).values())
    assert fewest["synflow", 0.01] > 300
    assert fewest["synflow", 0.001] > 30
    # at 1 % initial magnitude alone starves one (the output layer, whose initial weights are small), at 0.1 % all do
    # that look through the batch's own statistics; SNIP in inference mode, as published, does not
    assert fewest["magnitude-at-init", 0.01] <= 1
    assert all(fewest[label, 0.001] <= 1 for label in ("magnitude-at-init", "snip-train", "grasp"))
    assert fewest["snip", 0.001] > 20


@pytest.fixture(scope="module")
def on_the_teacher():
    """Test losses of tickets of 12.5 % of the planted student, of the same masks shuffled, and what they read."""
    task, read = planted()
    recipe = Recipe(steps=300, lr=0.01, batch_size=50, eval_every=300)
    seeds = range(8)

    def loss(mask, seed):
        model = MaskedWeights(mask).trainable(task.at_start(seed))
        for _ in train(model, task.data, task.loss_of, recipe, seed, (recipe.steps,)):
            pass
        return evaluate(model, task, task.data.test, recipe)[0]

    losses, shuffled, shares = {}, {}, {}
    for score in SCORES:
        found = [find(AtInit(score, rounds=1, rate=0.875), task, seed, recipe)[0] for seed in seeds]
        masks = [ticket.subnetwork.mask for ticket in found]
        chance = [torch.Generator().manual_seed(seed) for seed in seeds]
        others = [shuffle(mask, found[0].prunable, "layer", draws) for mask, draws in zip(masks, chance, strict=True)]
        losses[score] = torch.tensor([loss(mask, seed) for mask, seed in zip(masks, seeds, strict=True)])
        shuffled[score] = torch.tensor([loss(mask, seed) for mask, seed in zip(others, seeds, strict=True)])
        first = torch.stack([mask["0.weight"] for mask in masks])
        shares[score] = float(first[:, :, read].sum() / first.sum())
    return losses, shuffled, shares


@pytest.mark.parametrize("score", ["snip", "grasp", "synflow"])
def test_a_score_beats_chance_on_the_planted_teacher(on_the_teacher, score):
    """By a third of the targets' variance on average, in nearly every seed, and its own mask shuffled too."""
    losses, shuffled, _ = on_the_teacher
    gain = losses["random"] - losses[score]
    assert gain.mean() > 0.33
    assert (gain > 0).sum() >= 7
    assert (shuffled[score] - losses[score]).mean() > 0.1, "not by the numbers of weights in each layer alone"


def test_only_scores_that_see_data_find_the_inputs_that_matter(on_the_teacher):
    """Initial magnitude is not said to beat chance: here it does not (benchmarks/scores_on_the_teacher.py)."""
    *_, shares = on_the_teacher
    assert shares["snip"] > 0.6
    assert shares["grasp"] > 0.4
    assert all(0.15 < shares[score] < 0.35 for score in ("magnitude", "synflow", "random"))
