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
from scratchcard.training.scores import MODES, SCORES, Look
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
    scores = SCORES[score](TwoLayers(), mask, task_of(TwoLayers, X, Y), recipe, 0, Look(2))
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


def gradient_and_hessian(model, mask, inputs, targets, temperature=1.0):
    """Of the mean loss of softened logits in the kept weights, by brute force: every second derivative."""
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
        return F.cross_entropy(functional_call(model, {**fixed, **filled}, inputs) / temperature, targets)

    return point, torch.func.grad(loss)(point), torch.autograd.functional.hessian(loss, point)


@pytest.mark.parametrize("temperature", [1.0, 3.0, None])
@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("seed", [0, 1])
def test_snip_and_grasp_agree_with_the_whole_hessian_of_the_mean_loss_over_several_batches(seed, whole, temperature):
    task, recipe = classification(seed), Recipe(precision="float64", batch_size=3)
    model = task.fresh(seed).double()
    chance = torch.Generator().manual_seed(seed)
    mask = {name: whole | (torch.rand(kept.shape, generator=chance) < 0.6) for name, kept in everything(model).items()}
    seen = looked_at(task, recipe, seed, 9)
    snip = SCORES["snip"](model, mask, task, recipe, seed, Look(9))
    grasp = SCORES["grasp"](model, mask, task, recipe, seed, Look(9, temperature=temperature))
    kept = lambda scores: torch.cat([scores[name][mask[name]] for name in mask])  # noqa: E731
    point, gradient, _ = gradient_and_hessian(model, mask, *seen)
    torch.testing.assert_close(kept(snip), (point * gradient).abs(), rtol=1e-10, atol=1e-14)
    soft = temperature or 200.0  # the published one
    point, gradient, hessian = gradient_and_hessian(model, mask, *seen, soft)
    torch.testing.assert_close(kept(grasp), point * (hessian @ gradient), rtol=1e-10, atol=1e-14 / soft**2)
    assert (kept(grasp) < 0).any(), "GraSP has a sign"
    # what the score is for: removing the weight changes the squared norm of the gradient by -2 x score, to first order
    step, i = 1e-6, int(kept(grasp).abs().argmax())
    shrunk = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    at = [(name, place) for name in mask for place in mask[name].nonzero().tolist()][i]
    shrunk[at[0]][tuple(at[1])] *= 1 - step
    other = copy.deepcopy(model)
    other.load_state_dict(shrunk)
    _, after, _ = gradient_and_hessian(other, mask, *seen, soft)
    change = float(after @ after - gradient @ gradient) / step
    assert change == pytest.approx(-2 * float(kept(grasp)[i]), rel=1e-3)


@pytest.mark.parametrize("score", ["snip", "grasp"])
def test_batches_of_any_size_give_one_score_of_the_same_examples(score):
    task, model = classification(3), Larger().double()
    scores = [
        SCORES[score](model, everything(model), task, Recipe(precision="float64", batch_size=size), 5, Look(12))
        for size in (1, 3, 4, 12, 100)
    ]
    for other in scores[1:]:
        for name in other:
            torch.testing.assert_close(other[name], scores[0][name], rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize(("size", "examples", "looked"), [(4, 3, 3), (4, 9, 8), (4, 11, 12), (50, 512, 12)])
def test_examples_are_rounded_to_whole_batches_and_data_that_are_few_suffice(size, examples, looked):
    task, recipe = classification(4), Recipe(precision="float64", batch_size=size)
    model = Larger().double()
    scores = SCORES["snip"](model, everything(model), task, recipe, 2, Look(examples))
    whole = replace(recipe, batch_size=looked)
    wanted = SCORES["snip"](model, everything(model), task, whole, 2, Look(looked))
    for name in wanted:
        torch.testing.assert_close(scores[name], wanted[name], rtol=1e-9, atol=1e-14)


def plain_scores(model, loss, inputs, targets):
    """SNIP's and GraSP's, by one double backward pass through a copy in whatever mode the model is."""
    copied = copy.deepcopy(model)
    weights = {name: dict(copied.named_parameters())[name] for name in everything(model)}
    gradients = torch.autograd.grad(loss(copied(inputs), targets), list(weights.values()), create_graph=True)
    torch.stack([(g * g.detach()).sum() for g in gradients]).sum().backward()
    snip = {name: (weight * g).abs().detach() for (name, weight), g in zip(weights.items(), gradients, strict=True)}
    return {"snip": snip, "grasp": {name: (weight * weight.grad).detach() for name, weight in weights.items()}}


def assert_same(scores, wanted):
    assert scores.keys() == wanted.keys()
    for name, score in wanted.items():
        torch.testing.assert_close(scores[name], score, rtol=1e-9, atol=1e-9 * float(score.abs().max()))


def differ(scores, others):
    return all(float((scores[n] - others[n]).norm() / others[n].norm()) > 0.05 for n in others)


class Normalised(nn.Module):
    """Batch normalisation and a curve: its modes differ in what each hands on and in how gradients flow."""

    def __init__(self):
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(5, 6), nn.BatchNorm1d(6), nn.Linear(6, 3)

    def forward(self, x):
        return self.last(torch.tanh(self.norm(self.first(x))))


@pytest.mark.parametrize("fresh", [True, False])
@pytest.mark.parametrize("mode", ["inference", "train", None])
@pytest.mark.parametrize("score", MODES)
def test_snip_looks_in_inference_mode_and_grasp_in_training_mode_unless_told_otherwise(score, mode, fresh):
    task, recipe = replace(classification(1), model=Normalised), Recipe(precision="float64", batch_size=12)
    model = task.fresh(1).double()
    if not fresh:
        model.norm.running_mean.uniform_(-1, 1)
        model.norm.running_var.uniform_(1, 4)
    before = copy.deepcopy(model.state_dict())
    scores = SCORES[score](model, everything(model), task, recipe, 0, Look(12, mode, 1.0))
    assert model.training
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    seen = looked_at(task, recipe, 0, 12)
    by_mode = {
        "inference": plain_scores(model.eval(), F.cross_entropy, *seen)[score],
        "train": plain_scores(model.train(), F.cross_entropy, *seen)[score],
    }
    published = {"snip": "inference", "grasp": "train"}[score]
    used = mode or published
    assert_same(scores, by_mode[used])
    assert differ(scores, by_mode["train" if used == "inference" else "inference"])


def test_snip_of_a_fresh_batch_normalisation_is_that_of_the_network_without_it():
    task, recipe = replace(classification(2), model=Normalised), Recipe(precision="float64", batch_size=4)
    model = task.fresh(2).double()
    model.norm.eps = 0.0
    scores = SCORES["snip"](model, everything(model), task, recipe, 0, Look(12))
    bare = copy.deepcopy(model)
    bare.norm = nn.Identity()
    assert_same(scores, plain_scores(bare, F.cross_entropy, *looked_at(task, recipe, 0, 12))["snip"])


def test_snip_sees_dropout_in_training_mode_only():
    task, recipe = task_of(Dropped, torch.ones(1, 16), torch.ones(1, 1)), Recipe(precision="float64", batch_size=1)
    model = Dropped().double()
    weights = model.line.weight.detach()
    scores = [
        SCORES["snip"](model, everything(model), task, recipe, 3, Look(1, mode))["line.weight"]
        for mode in (None, "inference", "train")
    ]
    for score in scores[:2]:  # e = sum(w) - 1, g = 2 e
        torch.testing.assert_close(score, (weights * 2 * (weights.sum() - 1)).abs())
    assert 0 < int((scores[2] == 0).sum()) < 16


class Recurrent(nn.Module):
    """Two LSTM layers with dropout between them."""

    seen = ()

    def __init__(self):
        super().__init__()
        self.lstm, self.out = nn.LSTM(5, 4, 2, dropout=0.5, batch_first=True), nn.Linear(4, 3)

    def forward(self, x):
        Recurrent.seen = (self.training, self.lstm.training)
        return self.out(self.lstm(x[:, None].expand(-1, 3, -1))[0][:, -1])


def test_a_recurrent_network_in_inference_mode_can_be_differentiated_by_cudnn_and_drops_nothing():
    """CuDNN refuses the backward pass of a recurrent layer that is not in training mode."""
    task, recipe = replace(classification(3), model=Recurrent), Recipe(precision="float64", batch_size=4)
    model = task.fresh(0).double()
    scores = SCORES["snip"](model, everything(model), task, recipe, 0, Look(12))
    assert Recurrent.seen == (False, True)
    assert (model.lstm.training, model.lstm.dropout) == (True, 0.5)
    assert_same(scores, plain_scores(model.eval(), F.cross_entropy, *looked_at(task, recipe, 0, 12))["snip"])


class Several(Larger):
    """Answers with logits in company, as a dict or a tuple."""

    kind = dict

    def forward(self, x):
        logits = super().forward(x)
        if self.kind is dict:
            return {"logits": logits, "more": [logits * 2, None], "classes": logits.argmax(1)}
        return logits, (logits * 2, None), logits.argmax(1)


def of_several(outputs, targets):
    logits, (more, _), classes = outputs.values() if isinstance(outputs, dict) else outputs
    assert classes.dtype == torch.int64
    return F.cross_entropy(logits, targets) + F.cross_entropy(more, targets)


@pytest.mark.parametrize("kind", [dict, tuple])
def test_the_temperature_divides_every_number_of_the_outputs_and_is_1_for_a_loss_of_ones_own(kind):
    task, recipe = classification(5), Recipe(precision="float64", batch_size=4)
    task = replace(task, model=Several, loss=of_several)
    model = task.fresh(0).double()
    model.kind = kind

    def softer(temperature):
        def loss(outputs, targets):
            logits, (more, _), _ = outputs.values() if isinstance(outputs, dict) else outputs
            return F.cross_entropy(logits / temperature, targets) + F.cross_entropy(more / temperature, targets)

        return plain_scores(model, loss, *looked_at(task, recipe, 0, 12))["grasp"]

    for look, temperature in ((Look(12, temperature=3), 3), (Look(12, temperature=1), 1), (Look(12), 1)):
        assert_same(SCORES["grasp"](model, everything(model), task, recipe, 0, look), softer(temperature))
    assert differ(softer(3), softer(1))


@pytest.mark.parametrize(("make", "published"), [(regression, 1), (noise, 200), (digits, 200), (next_token, 200)])
def test_the_published_temperature_is_for_losses_of_logits(make, published):
    task, recipe = make(), Recipe(precision="float64", batch_size=10)
    model = task.fresh(0)
    default, same, other = (
        SCORES["grasp"](model, everything(model), task, recipe, 0, Look(20, temperature=temperature))
        for temperature in (None, published, 201 - published)
    )
    assert all(torch.equal(default[name], same[name]) for name in default)
    assert not any(torch.equal(default[name], other[name]) for name in default)


class Wrapped(Larger):
    def forward(self, x):
        return Answer(super().forward(x))


class Answer:
    def __init__(self, logits):
        self.logits = logits


def test_outputs_in_which_there_is_nothing_to_divide_are_refused_in_a_sentence():
    loss = lambda outputs, targets: F.cross_entropy(outputs.logits, targets)  # noqa: E731
    task, recipe = replace(classification(6), model=Wrapped, loss=loss), Recipe(precision="float64")
    model = task.fresh(0)
    with pytest.raises(
        ValueError, match=r"no tensor .* outputs \(Answer\) to divide .* temperature 3; .* temperature=1"
    ):
        SCORES["grasp"](model, everything(model), task, recipe, 0, Look(12, temperature=3))
    assert SCORES["grasp"](model, everything(model), task, recipe, 0, Look(12, temperature=1))


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
        score = SCORES["grasp"](model, everything(model), task, recipe, seed, Look(1))["line.weight"].flatten()
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
    scores = SCORES["synflow"](model, mask, task, Recipe(), 0, Look(1))
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
    first = SCORES["synflow"](model, mask, task, Recipe(), 0, Look(512))
    other = SCORES["synflow"](flipped, mask, regression_inputs(task), Recipe(batch_size=3), 1, Look(7))
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
        deep(), everything(deep()), task_of(deep, torch.ones(2, 30), torch.ones(2, 30)), Recipe(), 0, Look(1)
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
    scores = SCORES[score](model, mask, task, recipe, 7, Look(20))
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    again = SCORES[score](model, mask, task, recipe, 7, Look(20))
    assert all(torch.equal(scores[name], again[name]) for name in mask)
    other = SCORES[score](model, mask, task, recipe, 8, Look(20))
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
        results.append(SCORES[score](model, everything(model), task, recipe, 0, Look(6)))
        assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(results[0][name], results[1][name]) for name in results[0])
    model.fails = True
    with pytest.raises(ArithmeticError) as failure:
        SCORES[score](model, everything(model), task, recipe, 0, Look(6))
    assert failure.tb is not None, "the frames of the failure are still alive"
    assert torch.equal(torch.get_rng_state(), state)
