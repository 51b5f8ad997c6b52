"""Anyone's network: which of its parameters are weights, of which kind, and why some cannot be pruned."""

import pytest
import torch
from torch import nn

from scratchcard.networks.weights import list_weights, whole


def kinds(model, inputs, **options):
    return {w.name: w.kind for w in list_weights(model, inputs, **options)}


def prunable(model, inputs, **options):
    return {w.name for w in list_weights(model, inputs, **options) if w.prunable}


def convolutional():
    layers = [nn.Conv1d(3, 4, 3), nn.BatchNorm1d(4), nn.ReLU(), nn.Flatten(), nn.Linear(24, 6), nn.LayerNorm([6])]
    return nn.Sequential(*layers, nn.Linear(6, 2))


IMAGES = torch.zeros(2, 3, 8)


class Attention(nn.Module):
    """Embedding, attention, a hand-written matrix with a matrix of biases, and the output declared first."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(4, 3)
        self.embed = nn.Embedding(5, 4)
        self.attend = nn.MultiheadAttention(4, 2, batch_first=True, add_bias_kv=True)
        self.norm = nn.LayerNorm([6, 4])
        self.mix = nn.Parameter(torch.eye(6))
        self.position_bias = nn.Parameter(torch.zeros(6, 4))

    def forward(self, tokens):
        x = self.embed(tokens) + self.position_bias
        return self.head(self.norm(self.mix @ self.attend(x, x, x)[0]))


TOKENS = torch.zeros(2, 6, dtype=torch.int64)


def test_weights_are_matrices_and_kernels_outside_normalisation_and_biases_are_not():
    found = list_weights(convolutional(), IMAGES)
    assert [(w.name, w.shape, w.kind, w.size) for w in found] == [
        ("0.weight", (4, 3, 3), "conv", 36),
        ("4.weight", (6, 24), "linear", 144),
        ("6.weight", (2, 6), "output", 12),
    ]
    assert all(w.prunable and not w.reason for w in found)


def test_the_output_is_the_layer_called_last_not_the_one_declared_last():
    assert kinds(Attention(), TOKENS) == {
        "mix": "bare",
        "position_bias": "bare",
        "head.weight": "output",
        "embed.weight": "embedding",
        "attend.in_proj_weight": "linear",
        "attend.bias_k": "bare",
        "attend.bias_v": "bare",
        "attend.out_proj.weight": "linear",
    }


def test_what_is_kept_whole_has_a_reason_a_person_can_read():
    reasons = {w.name: w.reason for w in list_weights(Attention(), TOKENS) if not w.prunable}
    assert set(reasons) == {"mix", "position_bias", "embed.weight", "attend.bias_k", "attend.bias_v"}
    assert "looked up" in reasons["embed.weight"]
    assert "bare parameter of Attention" in reasons["mix"]
    assert "bias" in reasons["position_bias"]


def test_keep_and_also_take_names_patterns_and_kinds_and_keep_wins():
    everything = prunable(Attention(), TOKENS)
    assert prunable(Attention(), TOKENS, also=("mix", "embed.*")) == everything | {"mix", "embed.weight"}
    assert prunable(Attention(), TOKENS, keep=("output",)) == everything - {"head.weight"}
    assert prunable(Attention(), TOKENS, keep=("attend.*",)) == {"head.weight"}
    assert prunable(Attention(), TOKENS, keep=("mix",), also=("mix",)) == everything


def test_frozen_weights_are_kept_whole():
    model = convolutional()
    model[4].weight.requires_grad_(False)
    (frozen,) = [w for w in list_weights(model, IMAGES) if not w.prunable]
    assert (frozen.name, frozen.reason) == ("4.weight", "frozen (requires_grad is False)")


def test_recurrent_weights_are_prunable_and_called_so():
    class Last(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm, self.head = nn.LSTM(3, 4, batch_first=True), nn.Linear(4, 2)

        def forward(self, x):
            return self.head(self.lstm(x)[0][:, -1])

    found = kinds(Last(), torch.zeros(2, 5, 3))
    assert found == {"lstm.weight_ih_l0": "recurrent", "lstm.weight_hh_l0": "recurrent", "head.weight": "output"}


class Tied(nn.Module):
    """A language model whose output layer shares its matrix with the embedding."""

    def __init__(self):
        super().__init__()
        self.embed, self.inner, self.head = nn.Embedding(5, 4), nn.Linear(4, 4), nn.Linear(4, 5, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, tokens):
        return self.head(self.inner(self.embed(tokens)))


def test_a_shared_weight_is_counted_once():
    assert sum(w.size for w in list_weights(Tied(), TOKENS)) == 20 + 16


def test_a_layer_before_a_tied_output_is_not_taken_for_the_output():
    assert kinds(Tied(), TOKENS)["inner.weight"] == "linear"


def test_a_network_whose_layers_are_never_called_has_no_output_layer():
    class Functional(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 2)

        def forward(self, x):
            return x @ self.layer.weight.T

    assert kinds(Functional(), torch.zeros(2, 3)) == {"layer.weight": "linear"}


def test_the_mask_that_keeps_everything_covers_every_weight():
    found = list_weights(Attention(), TOKENS)
    mask = whole(found)
    assert {name: tuple(kept.shape) for name, kept in mask.items()} == {w.name: w.shape for w in found}
    assert all(bool(kept.all()) and kept.dtype == torch.bool for kept in mask.values())


def test_looking_at_a_network_leaves_no_trace_in_it():
    model = convolutional()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    list_weights(model, IMAGES + torch.randn(2, 3, 8))
    assert model.training
    assert not any(module._forward_hooks for module in model.modules())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_looking_at_a_network_that_draws_leaves_the_global_random_state_alone():
    class Noisy(nn.Linear):
        def forward(self, x):
            return super().forward(x + torch.randn_like(x))

    model, state = Noisy(3, 2), torch.get_rng_state()
    list_weights(model, torch.zeros(2, 3))
    assert torch.equal(torch.get_rng_state(), state)


def test_a_pattern_that_fits_nothing_is_refused_with_what_there_is():
    with pytest.raises(ValueError, match=r"unknown .* 'shortcut'; known: 0, 0\.weight,.* conv,.* output; .* '\*fc\*'"):
        list_weights(convolutional(), IMAGES, keep=("output", "shortcut", "*fc*"))


@pytest.mark.parametrize("model", [nn.Sequential(nn.Flatten()), nn.Sequential(nn.Flatten(), nn.LayerNorm([24]))])
def test_a_network_without_weights_is_refused(model):
    with pytest.raises(ValueError, match=r"Sequential has no weight that can be pruned.*none at all"):
        list_weights(model, IMAGES)


def test_a_network_with_everything_kept_is_refused_with_the_reasons():
    with pytest.raises(ValueError, match=r"no weight that can be pruned.*0\.weight \(kept by.*`also`"):
        list_weights(convolutional(), IMAGES, keep=("*",))
