"""Rounded values are of the form they are said to be, right on average, and the same at a step whoever trains."""

import copy
import itertools

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from problems import Reader, digits_model, planted, planted_student
from scratchcard.networks.forward import read_state, state_digest
from scratchcard.networks.subnetwork import MaskedWeights
from scratchcard.training.block_floating import BlockFloating, quantised, quantised_activations

OPTIMIZERS = {
    "momentum": lambda p: torch.optim.SGD(p, 0.05, momentum=0.9, weight_decay=1e-4, fused=True),
    "nesterov": lambda p: torch.optim.SGD(p, 0.05, momentum=0.9, nesterov=True),
    "adam": lambda p: torch.optim.Adam(p, 0.01, fused=True),
    "adamw": lambda p: torch.optim.AdamW(p, 0.01, weight_decay=0.1),
    "amsgrad": lambda p: torch.optim.Adam(p, 0.01, amsgrad=True),
    "rmsprop": lambda p: torch.optim.RMSprop(p, 0.01, momentum=0.5),
    "adagrad": lambda p: torch.optim.Adagrad(p, 0.05),
}
shapes = st.lists(st.integers(0, 5), max_size=4).map(tuple)
widths = st.sampled_from([2, 3, 4, 8, 12, 16])
dtypes = st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.float16])


def chance(seed=0):
    return torch.Generator().manual_seed(seed)


def spread(seed, shape, dtype=torch.float32, wide=4.0):
    """Values of very different sizes, some of them zero."""
    draw = chance(seed)
    values = torch.randn(shape, generator=draw, dtype=torch.float64)
    sizes = torch.exp2(wide * torch.randn(shape, generator=draw, dtype=torch.float64))
    return (values * sizes * (torch.rand(shape, generator=draw) < 0.9)).to(dtype)


def steps_of(tensor, bits, dim=0):
    """By trial: the smallest power of two of which the largest value of each block is at most 2^(bits - 1) - 1."""
    rows = tensor.detach().double()
    rows = rows.flatten(1) if dim == 0 and tensor.ndim > 1 else rows.reshape(1, -1)
    powers = torch.exp2(torch.arange(-160, 140, dtype=torch.float64))
    fits = rows.abs().amax(1, keepdim=True) <= (2 ** (bits - 1) - 1) * powers
    return rows, powers[fits.int().argmax(1)][:, None]


def is_representable(tensor, bits=8, dim=0):
    if not tensor.numel():
        return True
    rows, steps = steps_of(tensor, bits, dim)
    return bool((rows / steps == (rows / steps).round()).all())


@settings(deadline=None)
@given(st.integers(0, 10**6), shapes, dtypes, widths, st.sampled_from([0, None]), st.booleans())
def test_every_value_is_an_integer_times_the_power_of_two_of_its_block(seed, shape, dtype, bits, dim, nearest):
    tensor = spread(seed, shape, dtype, wide=1.0 if dtype == torch.float16 else 4.0)
    before = tensor.clone()
    rounded = quantised(tensor, bits, dim, None if nearest else chance(seed))
    assert (rounded.shape, rounded.dtype) == (shape, dtype)
    assert is_representable(rounded, bits, dim)
    assert torch.equal(tensor, before), "what is given stays"
    assert not rounded[tensor == 0].any()
    if tensor.numel() and dtype != torch.float16:  # float16 ends so early that its least step is often the larger one
        rows, steps = steps_of(tensor, bits, dim)
        off = (rounded.double().reshape(rows.shape) - rows).abs()
        assert bool((off <= (0.5 if nearest else 1.0) * steps).all())


@settings(deadline=None)
@given(st.integers(0, 10**6), shapes, dtypes, widths, st.sampled_from([0, None]), st.booleans())
def test_what_is_representable_already_is_left_as_it_is(seed, shape, dtype, bits, dim, nearest):
    wide = 1.0 if dtype == torch.float16 else 4.0
    once = quantised(spread(seed, shape, dtype, wide), bits, dim, chance(1))
    assert torch.equal(quantised(once, bits, dim, None if nearest else chance(2)), once)


@pytest.mark.parametrize("bits", [8, 16])
def test_a_million_representable_values_are_left_as_they_are(bits):
    top = 2 ** (bits - 1) - 1
    values = torch.randint(-top, top + 1, (1000, 1000), generator=chance()).float() * 2.0**-11
    values[:, 0] = top * 2.0**-11
    assert torch.equal(quantised(values, bits, 0, chance(1)), values)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6), widths, st.floats(1, 2), st.sampled_from([torch.float32, torch.float64]))
def test_rounding_is_right_on_average_the_largest_value_included(seed, bits, largest, dtype):
    row = torch.randn(6, generator=chance(seed), dtype=torch.float64).to(dtype)
    row = row / row.abs().max() * largest
    row[5] = row[4] * 1e-4
    draws = 20_000
    rounded = quantised(row.expand(draws, 6), bits, 0, chance(seed))
    _, (step,) = steps_of(row, bits)
    off = (rounded.double().mean(0) - row.double()).abs() / step
    # the mean of draws of spread at most half a step; six values, 30 examples
    assert bool((off <= 6 * 0.5 / draws**0.5).all())


def test_each_slice_has_an_exponent_of_its_own_unless_asked_otherwise():
    tensor = torch.tensor([[127.0, 1.0], [127 * 2.0**-20, 2.0**-20]])
    assert torch.equal(quantised(tensor, 8, 0), tensor)
    assert quantised(tensor, 8, None).tolist() == [[127, 1], [0, 0]]
    assert quantised(torch.tensor([127.0, 0.3])).tolist() == [127, 0], "a bias is one block"


def test_a_value_that_is_not_finite_spoils_its_block_and_no_other():
    for bad in (torch.inf, -torch.inf, torch.nan):
        rounded = quantised(torch.tensor([[1.0, bad, 2.0], [1.0, 0.0, 2.0]]), 8, 0, chance())
        assert rounded[0].isnan().all()
        assert rounded[1].tolist() == [1, 0, 2]


def test_the_smallest_numbers_are_rounded_like_any_other():
    for dtype in (torch.float32, torch.float64):
        tiny = torch.finfo(dtype).tiny
        values = torch.tensor([tiny, tiny / 4, 0.0, -tiny], dtype=dtype)
        many = quantised(values.expand(4000, 4), 8, 0, chance())
        assert (many[:, 0] == tiny).all()
        assert 0.2 < (many[:, 1] == tiny).double().mean() < 0.3
        assert ((many[:, 1] == tiny) | (many[:, 1] == 0)).all()
        assert not many[:, 2].any()


@pytest.mark.parametrize("bits", [-1, 0, 1, 17, 32])
def test_bits_that_are_no_block_floating_point_are_refused(bits):
    model = planted_student()
    with pytest.raises(ValueError, match=f"2 to 16 bits was needed, got {bits}"):
        quantised(torch.ones(2), bits)
    with pytest.raises(ValueError, match=f"2 to 16 bits was needed, got {bits}"):
        BlockFloating(model, torch.optim.SGD(model.parameters(), 0.1), bits)
    with pytest.raises(ValueError, match=f"2 to 16 bits was needed, got {bits}"), quantised_activations(model, bits):
        pass


@pytest.mark.parametrize(("tensor", "dim"), [(torch.ones(2, 2), 1), (torch.ones(2, dtype=torch.int64), 0)])
def test_blocks_that_there_are_not_are_refused(tensor, dim):
    with pytest.raises(ValueError, match="along dim 0 or None were needed"):
        quantised(tensor, 8, dim)


class Shortcut(nn.Module):
    """A small residual network: normalisation, in-place activation, a sum between layers, a bare parameter."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.norm, self.act, self.out = nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Linear(4, 3)
        self.scale = nn.Parameter(torch.tensor(0.7))

    def forward(self, x):
        x = self.act(self.first(x))
        return self.out(self.act(self.scale * x + self.norm(self.second(x))).mean((2, 3)))


MODELS = {
    "shortcut": (Shortcut, lambda draw: torch.randn(10, 1, 6, 6, generator=draw)),
    "transformer": (Reader, lambda draw: torch.randint(4, (10, 6), generator=draw)),
    "lstm": (lambda: nn.LSTM(3, 4, batch_first=True), lambda draw: torch.randn(10, 5, 3, generator=draw)),
}


def made(name="shortcut", seed=0):
    torch.manual_seed(seed)
    return MODELS[name][0]()


def one_step(model, optimizer, low, step, inputs):
    optimizer.zero_grad()
    torch.manual_seed(step)  # of dropout, as the loop does
    with low.forward(step):
        outputs = model(inputs(chance(step)))
        outputs = outputs[0] if isinstance(outputs, tuple) else outputs
        value = (outputs - 1).square().mean()
    value.backward()
    low.after_backward(step)
    optimizer.step()
    low.after_step(step)


def trained(name="shortcut", optimizer="momentum", steps=range(4), seed=0, bits=8, model=None):
    model = model or made(name)
    optimizer = OPTIMIZERS[optimizer](model.parameters())
    low = BlockFloating(model, optimizer, bits, seed)
    for step in steps:
        one_step(model, optimizer, low, step, MODELS[name][1])
    return model, optimizer


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_weights_gradients_and_what_the_optimizer_keeps_are_representable_after_a_step(name, optimizer):
    model, stepped = trained(name, optimizer)
    for parameter in model.parameters():
        kept = {k: v for k, v in stepped.state[parameter].items() if k != "step" and v is not None}
        assert kept
        for value in (parameter, parameter.grad, *kept.values()):
            assert is_representable(value)
            assert torch.isfinite(value).all()


@pytest.mark.parametrize(("optimizer", "name"), [("adam", "exp_avg_sq"), ("rmsprop", "square_avg"), ("adagrad", "sum")])
def test_what_is_divided_by_is_never_rounded_down_to_zero(optimizer, name):
    model = nn.Linear(50, 1, bias=False)
    stepped = OPTIMIZERS[optimizer](model.parameters())
    model.weight.grad = torch.cat([torch.ones(1), torch.full((48,), 1e-4), torch.zeros(1)])[None]
    stepped.step()
    BlockFloating(model, stepped).after_step(0)
    kept = stepped.state[model.weight][name][0]
    assert kept[:49].gt(0).all()
    assert kept[49] == 0
    assert is_representable(kept)


def test_momentum_would_not_be_representable_by_itself():
    model = made()
    optimizer = OPTIMIZERS["momentum"](model.parameters())
    for step in range(4):
        optimizer.zero_grad()
        model(MODELS["shortcut"][1](chance(step))).square().mean().backward()
        optimizer.step()
    for value in (model.first.weight, model.first.weight.grad, optimizer.state[model.first.weight]["momentum_buffer"]):
        assert not is_representable(value)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("optimizer", ["momentum", "adam"])
def test_all_rounding_at_a_step_is_a_function_of_seed_and_step(name, optimizer):
    whole, _ = trained(name, optimizer)
    model, stepped = trained(name, optimizer, steps=range(2))
    torch.rand(5)
    low = BlockFloating(model, stepped, 8, 0)
    for step in (2, 3):
        with quantised_activations(model):  # an evaluation in between
            model.eval()(MODELS[name][1](chance(9)))
        model.train()
        one_step(model, stepped, low, step, MODELS[name][1])
    assert state_digest(read_state(model)) == state_digest(read_state(whole))
    assert state_digest(read_state(trained(name, optimizer, seed=1)[0])) != state_digest(read_state(whole))


def test_every_step_and_every_part_of_a_step_is_rounded_by_other_chance():
    model = nn.Linear(64, 64, bias=False)
    optimizer = torch.optim.SGD(model.parameters(), 0.0, momentum=0.9)
    low, seen = BlockFloating(model, optimizer), []
    values = torch.rand(64, 64, generator=chance())
    for step in (0, 1):
        model.weight.grad = values.clone()
        low.after_backward(step)
        seen.append(model.weight.grad.clone())
        model.weight.data = values.clone()
        low.after_step(step)
        seen.append(model.weight.detach().clone())
        model.weight.data = torch.eye(64)
        entering = values.clone().requires_grad_()
        with low.forward(step):
            out = model(entering)
        out.backward(values)
        seen += [out.detach(), entering.grad]
    assert all(is_representable(value) for value in seen)
    assert not any(torch.equal(a, b) for a, b in itertools.combinations(seen, 2))


def watched(model):
    """What goes into every layer and what errors come back to it, noted while `model` runs."""
    into, back = {}, {}

    def note(name):
        def hook(module, inputs, outputs):
            into[name] = inputs[0].detach().clone()
            if outputs.requires_grad:
                outputs.register_hook(lambda error: back.__setitem__(name, error.clone()))

        return hook

    for name, module in model.named_modules():
        if name and not list(module.children()):
            module.register_forward_hook(note(name), prepend=True)
    return into, back


def test_activations_go_forward_and_errors_back_rounded_an_example_a_block():
    model = digits_model()
    into, back = watched(model)
    low = BlockFloating(model, torch.optim.SGD(model.parameters(), 0.1))
    x, y = torch.randn(12, 1, 8, 8, generator=chance()), torch.randint(10, (12,), generator=chance())
    with low.forward(0):
        value = F.cross_entropy(model(x), y)
    value.backward()
    assert into.keys() == back.keys() == {"0", "1", "2", "3", "4", "5"}
    assert torch.equal(into["0"], x), "the data are the user's"
    assert all(is_representable(entering) for name, entering in into.items() if name != "0")
    assert all(is_representable(error) for error in back.values())
    into, back = watched(plain := digits_model())
    F.cross_entropy(plain(x), y).backward()
    assert not any(is_representable(values) for values in (into["3"], into["5"], back["0"], back["3"], back["5"]))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", MODELS)
def test_an_evaluation_is_of_the_low_precision_network_and_the_same_every_time_and_in_any_batch(name, training):
    # float64: between batches sums differ in their last digits, which must not decide what is nearest
    model, x = made(name).double().eval(), MODELS[name][1](chance(5))
    x = x.double() if x.is_floating_point() else x
    state = torch.get_rng_state()
    context = torch.enable_grad() if training else torch.inference_mode()

    def outputs(inputs, bits=4):
        with context, quantised_activations(model, bits):
            out = model(inputs)
        return (out[0] if isinstance(out, tuple) else out).detach()

    whole = outputs(x)
    assert is_representable(whole, 4)
    assert torch.equal(outputs(x), whole)
    assert torch.equal(torch.cat([outputs(x[:3]), outputs(x[3:])]), whole)
    assert torch.equal(torch.get_rng_state(), state)
    if name != "lstm":
        assert not torch.equal(quantised(model(x), 4).detach(), whole), "layers inside are rounded too"


@pytest.mark.parametrize("name", MODELS)
def test_no_hook_is_left_outside_and_none_on_a_copy(name):
    torch.backends.mha.set_fastpath_enabled(True)  # as torch starts
    model, _ = trained(name)
    mask = {n: torch.ones_like(p, dtype=torch.bool) for n, p in model.named_parameters() if p.ndim > 1}

    def hooks(network):
        return [hook for module in network.modules() for hook in module._forward_hooks.values()]

    def fails():
        with BlockFloating(model, torch.optim.SGD(model.parameters(), 0.1)).forward(0):
            assert hooks(model)
            raise RuntimeError("my network is broken")

    assert not hooks(model)
    with pytest.raises(RuntimeError, match="my network is broken"):
        fails()
    assert not hooks(model)
    assert not hooks(MaskedWeights(mask).ship(model)) + hooks(copy.deepcopy(model))
    assert torch.backends.mha.get_fastpath_enabled()


def test_attention_whose_parts_are_never_called_is_rounded_as_a_whole():
    torch.manual_seed(0)
    attention, x = nn.MultiheadAttention(8, 2, batch_first=True).eval(), torch.randn(3, 5, 8, generator=chance())
    with torch.inference_mode(), quantised_activations(attention, 4):
        assert is_representable(attention(x, x, x)[0], 4)
    assert not is_representable(attention(x, x, x)[0], 4)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")  # torch's own, of its fused layers
def test_a_padded_transformer_is_evaluated_layer_by_layer():
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    encoder, x = nn.TransformerEncoder(layer, 2).eval(), torch.randn(3, 5, 8, generator=chance())
    padding = torch.arange(5) >= torch.tensor([[5], [4], [2]])
    with torch.inference_mode(), quantised_activations(encoder, 16):
        fine = encoder(x, src_key_padding_mask=padding)
    with torch.inference_mode(), quantised_activations(encoder, 4):
        coarse = encoder(x, src_key_padding_mask=padding)
    plain = encoder(x, src_key_padding_mask=padding)
    assert is_representable(coarse, 4)
    torch.testing.assert_close(fine[~padding], plain[~padding], rtol=0, atol=1e-2)
    assert (coarse - plain)[~padding].abs().max() > 0.1


def test_cut_weights_stay_zero():
    model = made()
    mask = {"second.weight": torch.rand(model.second.weight.shape, generator=chance()) < 0.3}
    for optimizer in OPTIMIZERS:
        masked = MaskedWeights(mask).trainable(model)
        trained(optimizer=optimizer, model=masked)
        cut = masked.second.weight[~mask["second.weight"]].detach()
        assert not cut.contiguous().view(torch.uint8).any(), "zero to the bit"
        assert masked.second.weight[mask["second.weight"]].any()


def losses(optimizer, bits, steps=600, seed=0):
    """Validation loss on the planted teacher before and after a training; bits None: in float32."""
    task, _ = planted()
    train, validation = task.data.train, task.data.validation
    torch.manual_seed(seed)
    model, draw = planted_student(), chance(seed)
    stepped = OPTIMIZERS[optimizer](model.parameters())
    low = BlockFloating(model, stepped, bits, seed) if bits else None

    def loss():
        with torch.no_grad():
            if bits:
                with quantised_activations(model, bits):
                    return float(F.mse_loss(model(validation.inputs), validation.targets))
            return float(F.mse_loss(model(validation.inputs), validation.targets))

    before = loss()
    for step in range(steps):
        at = torch.randint(len(train.inputs), (64,), generator=draw)
        stepped.zero_grad()
        if low:
            with low.forward(step):
                value = F.mse_loss(model(train.inputs[at]), train.targets[at])
        else:
            value = F.mse_loss(model(train.inputs[at]), train.targets[at])
        value.backward()
        if low:
            low.after_backward(step)
        stepped.step()
        if low:
            low.after_step(step)
    return before, loss()


@pytest.mark.parametrize("optimizer", ["momentum", "adam"])
def test_in_eight_bits_a_planted_teacher_is_learnt_nearly_as_well_as_in_float32_and_in_two_bits_it_is_not(optimizer):
    before, plain = losses(optimizer, None)
    _, eight = losses(optimizer, 8)
    _, two = losses(optimizer, 2)
    assert plain < 0.05 * before
    assert eight < plain + 0.05 * before
    assert not two < eight + 0.1 * before, "it may well have diverged"
