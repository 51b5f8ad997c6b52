"""Each score is its paper's formula: worked out by hand, by an explicit Hessian, and by what it must conserve."""

import copy
from dataclasses import replace
from itertools import islice, pairwise

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.func import functional_call

from problems import digits, next_token, noise, regression
from scratchcard.networks.weights import everything
from scratchcard.training.data import Data, batches
from scratchcard.training.recipe import Recipe
from scratchcard.training.scores import SCORES
from scratchcard.training.task import Task

PRECISIONS = pytest.mark.parametrize("precision", ["float32", "float64"])


def by_value(*rows):
    return [torch.tensor(row, dtype=torch.float64) for row in rows]


class TwoLayers(nn.Module):
    """y = v relu(W x) without biases, W = [[1, 2], [-1, 1]], v = [2, -1]."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(2, 2, bias=False), nn.Linear(2, 1, bias=False)
        with torch.no_grad():
            self.first.weight.copy_(torch.tensor([[1.0, 2.0], [-1.0, 1.0]]))
            self.second.weight.copy_(torch.tensor([[2.0, -1.0]]))

    def forward(self, x):
        return self.second(self.first(x).relu())


X, Y = torch.tensor([[1.0, 2.0], [3.0, 1.0]]), torch.tensor([[7.0], [11.0]])
NAMES = ("first.weight", "second.weight")
WHOLE = {"first.weight": torch.ones(2, 2, dtype=torch.bool), "second.weight": torch.ones(1, 2, dtype=torch.bool)}
CUT = {"first.weight": torch.tensor([[False, True], [True, True]]), "second.weight": torch.tensor([[True, False]])}


def task_of(model, inputs, targets, loss="mse", name="by hand"):
    pair = (inputs, targets)
    return Task(name, model, Data.from_tensors(name, pair, pair, pair), loss=loss, metric="loss")


# Loss: the mean of e^2 over both examples, so that dL/dy = e in each.
#
# Whole. Before the ReLU 5, 1 and 5, -2; outputs 9 and 10; e = 2, -1.
#   gradient g:  v: 2 (5, 1) - (5, 0) = (5, 2);  W row 1: 2 x 2 (1, 2) - 2 (3, 1) = (-2, 6);  row 2: -2 (1, 2)
#   Hessian = sum over examples of grad y grad y' + e Hess y.  grad y = 2x, -x, (5, 1) and 2x, 0, (5, 0);
#   grad y . g = 57 and 25;  (Hess y) g = a x g_v for W, a (x . g_W) for v, with a = 1 where the ReLU is open:
#   e (Hess y) g = 2 ((5, 10), (2, 4), (10, -10)) and -((15, 5), 0, (0, 0))
#   H g = ((259, 293), (-53, -106), (430, 37))
# Cut (W[0, 0] and v[1]). Before the ReLU 4, 1 and 2, -2; outputs 8 and 4; e = 1, -7.
#   g among what is kept:  v: (4 - 7 x 2) = -10;  W row 1: 2 x 2 - 7 x 2 x 1 = -10;  row 2: 0
#   grad y . g = (4 x -10 + 4 x -10, 2 x -10 + 2 x -10) = (-80, -40)
#   H g of W[0, 1]: -80 x 4 - 40 x 2 + (2 x -10) - 7 (1 x -10) = -350;  of v[0]: -80 x 4 - 40 x 2 - 20 + 70 = -350
# SynFlow: |W| = [[1, 2], [1, 1]], |v| = [2, 1]; ones give 3, 2 and R = 8; cut: 2, 2 and R = 4.
BY_HAND = {
    ("magnitude", "whole"): ([[1, 2], [1, 1]], [[2, 1]]),
    ("snip", "whole"): ([[2, 12], [2, 4]], [[10, 2]]),
    ("grasp", "whole"): ([[259, 586], [53, -106]], [[860, -37]]),
    ("synflow", "whole"): ([[2, 4], [1, 1]], [[6, 2]]),
    ("magnitude", "cut"): ([[0, 2], [1, 1]], [[2, 0]]),
    ("snip", "cut"): ([[0, 20], [0, 0]], [[20, 0]]),
    ("grasp", "cut"): ([[0, -700], [0, 0]], [[-700, 0]]),
    ("synflow", "cut"): ([[0, 4], [0, 0]], [[4, 0]]),
}


@PRECISIONS
@pytest.mark.parametrize(("score", "which"), BY_HAND)
def test_a_score_is_its_formula_on_a_network_worked_out_by_hand(score, which, precision):
    mask = WHOLE if which == "whole" else CUT
    recipe = Recipe(precision=precision, batch_size=2)
    scores = SCORES[score](TwoLayers(), mask, task_of(TwoLayers, X, Y), recipe, 0, 2)
    assert scores.keys() == mask.keys()
    for name, wanted in zip(NAMES, by_value(*BY_HAND[score, which]), strict=True):
        kept = mask[name]
        torch.testing.assert_close(scores[name][kept].double(), wanted[kept], rtol=1e-6, atol=0)
        if score != "magnitude":
            assert not scores[name][~kept].any(), "what is cut is a zero, and its score too"


class Larger(nn.Module):
    """Two layers with biases and a curved activation: x [B, 5] to logits [B, 3]."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(5, 6), nn.Linear(6, 3)

    def forward(self, x):
        return self.second(torch.tanh(self.first(x)))


def classification(seed, examples=12):
    chance = torch.Generator().manual_seed(seed)
    inputs = torch.randn(examples, 5, generator=chance, dtype=torch.float64)
    return task_of(Larger, inputs, torch.randint(0, 3, (examples,), generator=chance), "cross_entropy", "classes")


def looked_at(task, recipe, seed, examples):
    """The first training examples of the seed's order, as one batch."""
    feed = islice(batches(task.data.train, recipe.batch_size, seed), examples // recipe.batch_size)
    inputs, targets = zip(*feed, strict=True)
    return torch.cat(inputs), torch.cat(targets)


def gradient_and_hessian(model, mask, inputs, targets):
    """Of the mean loss in the kept weights, by brute force: finite differences of nothing, every second derivative."""
    fixed = {name: p.detach() for name, p in model.named_parameters() if name not in mask}
    places = {name: kept.flatten().nonzero().squeeze(1) for name, kept in mask.items()}
    weights = {name: dict(model.named_parameters())[name].detach() for name in mask}
    point = torch.cat([weights[name].flatten()[places[name]] for name in mask])

    def loss(flat):
        parts = dict(zip(mask, flat.split([len(at) for at in places.values()]), strict=True))
        filled = {
            name: torch.zeros_like(weights[name]).flatten().index_put((places[name],), part).view(mask[name].shape)
            for name, part in parts.items()
        }
        return F.cross_entropy(functional_call(model, {**fixed, **filled}, inputs), targets)

    return point, torch.func.grad(loss)(point), torch.autograd.functional.hessian(loss, point)


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("seed", [0, 1])
def test_snip_and_grasp_agree_with_the_whole_hessian_of_the_mean_loss_over_several_batches(seed, whole):
    task, recipe = classification(seed), Recipe(precision="float64", batch_size=3)
    model = task.fresh(seed).double()
    chance = torch.Generator().manual_seed(seed)
    mask = {name: whole | (torch.rand(kept.shape, generator=chance) < 0.6) for name, kept in everything(model).items()}
    point, gradient, hessian = gradient_and_hessian(model, mask, *looked_at(task, recipe, seed, 9))
    snip, grasp = (SCORES[name](model, mask, task, recipe, seed, 9) for name in ("snip", "grasp"))
    kept = lambda scores: torch.cat([scores[name][mask[name]] for name in mask])  # noqa: E731
    torch.testing.assert_close(kept(snip), (point * gradient).abs(), rtol=1e-10, atol=1e-14)
    torch.testing.assert_close(kept(grasp), point * (hessian @ gradient), rtol=1e-10, atol=1e-14)
    assert (kept(grasp) < 0).any(), "GraSP has a sign"
    # what the score is for: removing the weight changes the squared norm of the gradient by -2 x score, to first order
    step, i = 1e-6, int(kept(grasp).abs().argmax())
    shrunk = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    at = [(name, place) for name in mask for place in mask[name].nonzero().tolist()][i]
    shrunk[at[0]][tuple(at[1])] *= 1 - step
    other = copy.deepcopy(model)
    other.load_state_dict(shrunk)
    _, after, _ = gradient_and_hessian(other, mask, *looked_at(task, recipe, seed, 9))
    change = float(after @ after - gradient @ gradient) / step
    assert change == pytest.approx(-2 * float(kept(grasp)[i]), rel=1e-3)


@pytest.mark.parametrize("score", ["snip", "grasp"])
def test_batches_of_any_size_give_one_score_of_the_same_examples(score):
    task, model = classification(3), Larger().double()
    scores = [
        SCORES[score](model, everything(model), task, Recipe(precision="float64", batch_size=size), 5, 12)
        for size in (1, 3, 4, 12, 100)
    ]
    for other in scores[1:]:
        for name in other:
            torch.testing.assert_close(other[name], scores[0][name], rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize(("size", "examples", "looked"), [(4, 3, 3), (4, 9, 8), (4, 11, 12), (50, 512, 12)])
def test_examples_are_rounded_to_whole_batches_and_data_that_are_few_suffice(size, examples, looked):
    task, recipe = classification(4), Recipe(precision="float64", batch_size=size)
    model = Larger().double()
    scores = SCORES["snip"](model, everything(model), task, recipe, 2, examples)
    whole = replace(recipe, batch_size=looked)
    wanted = SCORES["snip"](model, everything(model), task, whole, 2, looked)
    for name in wanted:
        torch.testing.assert_close(scores[name], wanted[name], rtol=1e-9, atol=1e-14)


class Dropped(nn.Module):
    """y = sum of dropout(w): squared error against 1 has a Hessian that only one draw of the dropout explains."""

    def __init__(self):
        super().__init__()
        self.line = nn.Linear(16, 1, bias=False)

    def forward(self, x):
        return self.line(F.dropout(x, 0.5, self.training))


def test_gradient_and_hessian_see_the_same_dropout():
    task = task_of(Dropped, torch.ones(1, 16), torch.ones(1, 1))
    model = Dropped().double()
    weights = model.line.weight.detach().flatten()
    for seed in range(5):
        recipe = Recipe(precision="float64", batch_size=1)
        score = SCORES["grasp"](model, everything(model), task, recipe, seed, 1)["line.weight"].flatten()
        seen = score != 0
        assert 0 < seen.sum() < 16
        # with m = 2 for each of the k weights seen: e = 2 sum(w) - 1, g = 2 e m, H g = 2 m (m . g) = 32 k e
        error = 2 * weights[seen].sum() - 1
        torch.testing.assert_close(score[seen], weights[seen] * 32 * int(seen.sum()) * error)


def chain(widths, convolutional, seed):
    """A bias-free ReLU chain, with a pooling that shares out what flows."""
    torch.manual_seed(seed)
    if not convolutional:
        layers = [part for i, j in pairwise(widths) for part in (nn.Linear(i, j, bias=False), nn.ReLU())]
        return nn.Sequential(*layers[:-1])
    layers = [part for i, j in pairwise(widths) for part in (nn.Conv2d(i, j, 3, padding=1, bias=False), nn.ReLU())]
    return nn.Sequential(*layers, nn.MaxPool2d(2), nn.Flatten(), nn.Linear(4 * widths[-1], 3, bias=False))


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.integers(1, 8), min_size=2, max_size=7), st.booleans(), st.integers(0, 10**6), st.sampled_from([0.5, 1])
)
def test_synflow_scores_add_up_to_the_same_flow_in_every_layer(widths, convolutional, seed, density):
    """Tanaka et al. 2020, theorem 1: what flows through a bias-free ReLU chain flows through each of its layers."""
    model = chain(widths, convolutional, seed)
    chance = torch.Generator().manual_seed(seed)
    mask = {n: torch.rand(kept.shape, generator=chance) < density for n, kept in everything(model).items()}
    shape = (widths[0], 4, 4) if convolutional else (widths[0],)
    inputs = torch.randn(3, *shape, generator=chance)
    task = task_of(lambda: chain(widths, convolutional, seed), inputs, torch.zeros(3, 1))
    scores = SCORES["synflow"](model, mask, task, Recipe(), 0, 1)
    ones = torch.ones(1, *shape, dtype=torch.float64)
    bare = {name: p.detach().double().abs() * mask[name] for name, p in model.named_parameters()}
    flow = functional_call(copy.deepcopy(model).double(), bare, ones).sum()
    for score in scores.values():
        assert score.dtype == torch.float64
        torch.testing.assert_close(score.sum(), flow.detach(), rtol=1e-12, atol=0)
    if not convolutional:  # and what flows into a hidden unit flows out of it
        for before, after in pairwise(scores.values()):
            torch.testing.assert_close(before.sum(1), after.sum(0), rtol=1e-12, atol=0)


def test_synflow_sees_neither_data_nor_signs_nor_the_seed_and_takes_normalisation_as_it_is_evaluated():
    task = noise()
    model = task.fresh(0)
    flipped = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in flipped.parameters():
            parameter.mul_(torch.randn_like(parameter).sign())
        model[1].running_var.fill_(4.0)
        flipped[1].running_var.fill_(4.0)
    mask = everything(model)
    first = SCORES["synflow"](model, mask, task, Recipe(), 0, 512)
    other = SCORES["synflow"](flipped, mask, regression_inputs(task), Recipe(batch_size=3), 1, 7)
    for name in mask:
        torch.testing.assert_close(first[name], other[name], rtol=1e-12, atol=0)
    # |w| of the first layer, |b|; / sqrt(4 + eps); into |v|: R = sum_ij |v_ij| (sum_k |w_jk| + |b_j|) / 2.0000025
    weight, bias, last = (p.detach().double().abs() for p in (model[0].weight, model[0].bias, model[3].weight))
    shrink = (4 + model[1].eps) ** -0.5
    torch.testing.assert_close(first["0.weight"], weight * shrink * last.sum(0)[:, None], rtol=1e-12, atol=0)
    torch.testing.assert_close(first["3.weight"], last * (weight.sum(1) + bias) * shrink, rtol=1e-12, atol=0)


def regression_inputs(task):
    """The same task with other examples."""
    inputs = torch.randn(20, 8) * 100
    return task_of(task.model, inputs, torch.zeros(20, dtype=torch.int64), "cross_entropy", "others")


def test_synflow_does_not_overflow_where_a_float32_product_over_layers_would():
    def deep():
        layers = [nn.Linear(30, 30, bias=False) for _ in range(40)]
        for layer in layers:
            nn.init.constant_(layer.weight, 1.0)
        return nn.Sequential(*layers)

    scores = SCORES["synflow"](
        deep(), everything(deep()), task_of(deep, torch.ones(2, 30), torch.ones(2, 30)), Recipe(), 0, 1
    )
    assert all(float(score.sum()) == pytest.approx(30.0**41, rel=1e-9) for score in scores.values())


TASKS = {"regression": regression, "noise": noise, "digits": digits, "next-token": next_token}


class Named(nn.Module):
    """Called by keyword, answers with a dict that holds more than numbers."""

    def __init__(self):
        super().__init__()
        self.layer, self.unused = nn.Linear(4, 2), nn.Linear(3, 3)

    def forward(self, values, tokens):
        return {"y": self.layer(values), "tokens": tokens, "nothing": None}


def named():
    inputs = {"values": torch.randn(6, 4), "tokens": torch.randint(0, 5, (6, 3))}
    pair = (inputs, torch.randn(6, 2))
    return Task(
        "named", Named, Data.from_tensors("named", pair, pair, pair), lambda out, y: F.mse_loss(out["y"], y), "loss"
    )


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("make", [*TASKS.values(), named], ids=[*TASKS, "named"])
def test_a_score_is_a_function_of_network_and_seed_and_touches_neither_model_nor_global_chance(make, score):
    task = make()
    model = task.fresh(0)
    first = next(model.parameters())
    first.requires_grad_(False)  # a frozen weight stays frozen
    hook = model.register_forward_hook(lambda *_: None)
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 3.0)
    model.eval()
    before = copy.deepcopy(model.state_dict())
    mask = everything(model)
    recipe = Recipe(batch_size=5)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    scores = SCORES[score](model, mask, task, recipe, 7, 20)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    again = SCORES[score](model, mask, task, recipe, 7, 20)
    assert all(torch.equal(scores[name], again[name]) for name in mask)
    other = SCORES[score](model, mask, task, recipe, 8, 20)
    same = all(torch.equal(scores[name], other[name]) for name in mask)
    assert same == (score in ("magnitude", "synflow")), "only what looks at data or chance depends on the seed"
    for name, kept in mask.items():
        assert kept.all()
        assert scores[name].shape == kept.shape
        assert scores[name].isfinite().all()
        assert not scores[name].requires_grad
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert all(bool((parameter.grad == 3.0).all()) for parameter in model.parameters())
    assert not first.requires_grad
    assert not model.training
    assert list(model._forward_hooks) == [hook.id]


class Drawn(torch.autograd.Function):
    """Passes everything on, with some noise on the way back; or fails there."""

    @staticmethod
    def forward(ctx, x, fails):
        ctx.fails = fails
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        noise = torch.rand(())
        if ctx.fails:
            raise ArithmeticError("no way back")
        return gradient * (1 + noise), None


class Noisy(Larger):
    fails = False

    def forward(self, x):
        return Drawn.apply(super().forward(x), self.fails)


@pytest.mark.parametrize("score", ["snip", "grasp"])
def test_chance_on_the_way_back_is_seeded_and_global_chance_given_back_even_after_a_failure(score):
    model, task, recipe = Noisy().double(), classification(0), Recipe(precision="float64", batch_size=3)
    results = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        state = torch.get_rng_state()
        results.append(SCORES[score](model, everything(model), task, recipe, 0, 6))
        assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(results[0][name], results[1][name]) for name in results[0])
    model.fails = True
    with pytest.raises(ArithmeticError) as failure:
        SCORES[score](model, everything(model), task, recipe, 0, 6)
    assert failure.tb is not None, "the frames of the failure are still alive"
    assert torch.equal(torch.get_rng_state(), state)
