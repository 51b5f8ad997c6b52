"""Layers of torch are told the sizes that their tensors have now, each by what it calls them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd


def retell(module: nn.Module) -> None:
    """Tell a layer its sizes, in place, by the tensors that it has; any other module is left as it is."""
    weight = next((own for own in (getattr(module, name, None) for name in _TELLING) if isinstance(own, Tensor)), None)
    if weight is not None:
        for kind, told in _TOLD:
            if kind(module):
                told(module, weight)
                return


_TELLING = ("weight", "running_mean", "weight_hh_l0", "weight_hh")
"""Tensors that tell sizes: of layers, of a normalisation without scale and shift, of recurrent layers and cells."""


def _convolution(module: Any, weight: Tensor) -> None:
    if module.groups > 1:
        module.groups = weight.shape[0] // (module.out_channels // module.groups)
    module.out_channels, module.in_channels = weight.shape[0], weight.shape[1] * module.groups


def _transposed(module: Any, weight: Tensor) -> None:
    if module.groups > 1:
        module.groups = weight.shape[0] // (module.in_channels // module.groups)
    module.in_channels, module.out_channels = weight.shape[0], weight.shape[1] * module.groups


def _linear(module: Any, weight: Tensor) -> None:
    if weight.dim() == 2:
        module.out_features, module.in_features = weight.shape


def _bilinear(module: Any, weight: Tensor) -> None:
    module.out_features, module.in1_features, module.in2_features = weight.shape


def _normalisation(module: Any, weight: Tensor) -> None:
    module.num_features = weight.shape[0]


def _groups(module: Any, weight: Tensor) -> None:
    module.num_groups = module.num_groups * weight.shape[0] // module.num_channels
    module.num_channels = weight.shape[0]


def _slopes(module: Any, weight: Tensor) -> None:
    module.num_parameters = weight.shape[0]


def _words(module: Any, weight: Tensor) -> None:
    module.num_embeddings, module.embedding_dim = weight.shape


def _matrix(module: Any, weight: Tensor) -> None:
    """Transformers' Conv1D: [in, out]; early ones do not know what comes in."""
    for attribute, size in (("nx", weight.shape[0]), ("nf", weight.shape[1])):
        if isinstance(getattr(module, attribute, None), int):
            setattr(module, attribute, size)


def _recurrent(module: Any, weight: Tensor) -> None:
    reading = getattr(module, "weight_ih_l0", None)  # of a layer; a cell has one of another name
    reading = module.weight_ih if reading is None else reading
    module.input_size, module.hidden_size = reading.shape[1], weight.shape[1]


def _is(*kinds: type) -> Callable[[nn.Module], bool]:
    return lambda module: isinstance(module, kinds)


def _is_matrix(module: nn.Module) -> bool:
    return bool({"nf", "nx"} & vars(module).keys()) and getattr(module.weight, "ndim", 0) == 2


_TOLD: tuple[tuple[Callable[[nn.Module], bool], Callable[[Any, Tensor], None]], ...] = (
    (_is(_ConvTransposeNd), _transposed),
    (_is(_ConvNd), _convolution),
    (_is(nn.Linear), _linear),
    (_is(nn.Bilinear), _bilinear),
    (_is(nn.RNNBase, nn.RNNCellBase), _recurrent),
    (_is(_NormBase), _normalisation),
    (_is(nn.GroupNorm), _groups),
    (_is(nn.PReLU), _slopes),
    (_is(nn.Embedding, nn.EmbeddingBag), _words),
    (_is_matrix, _matrix),
)
"""Which layers -> how they are told; the first that fits."""


def retell_attention(attention: nn.MultiheadAttention) -> None:
    """Tell an attention whose inputs have fewer features how wide they are now."""
    attention.embed_dim = attention.out_proj.out_features
    apart = attention.in_proj_weight is None
    attention.kdim = attention.k_proj_weight.shape[1] if apart else attention.embed_dim
    attention.vdim = attention.v_proj_weight.shape[1] if apart else attention.embed_dim
