"""Networks that quantisation has taken hold of: what they observe, and what of their state is no tensor."""

from __future__ import annotations

from torch import Tensor, nn
from torch.ao.quantization.fake_quantize import FakeQuantizeBase
from torch.ao.quantization.observer import ObserverBase

_NAMED = 4
"""So many names are told, then how many there are more."""
_PACKED = "torch.ao.nn.quantized"
"""Where torch has its layers of whole numbers; their weights are packed, and no parameters."""


def check_not_quantised(model: nn.Module) -> None:
    """Refuse to find units in a network that observes ranges or has packed weights.

    Raises:
        ValueError: it does; modules are named.
    """
    observing = [path for path, module in model.named_modules() if isinstance(module, FakeQuantizeBase | ObserverBase)]
    packed = [path for path, module in model.named_modules() if type(module).__module__.startswith(_PACKED)]
    if packed:
        raise ValueError(
            f"units of this {type(model).__name__} cannot be removed: it is quantised already, and the weights of "
            f"{_told(packed)} are packed whole numbers that cannot be cut; cut the network in floating point, then "
            "quantise the small one"
        )
    if observing:
        raise ValueError(
            f"units of this {type(model).__name__} cannot be removed: it is prepared for quantisation, and "
            f"{_told(observing)} observe the range of all units together, which is another one when some are gone; "
            "cut the network first, then prepare the small one (prepare_qat) and train it on"
        )


def not_tensors(model: nn.Module) -> list[str]:
    """What the state of a network has besides dense tensors: extra states, packed weights; names with what they are."""
    return [f"{name} ({type(value).__name__})" for name, value in model.state_dict().items() if not _is_kept(value)]


def check_only_tensors(model: nn.Module, whose: str, lost: str) -> None:
    """Refuse a network of whose state a part would be lost.

    Args:
        model: it is not touched.
        whose: the network, as the sentence begins.
        lost: what would become of that part, and what to do: the end of the sentence.

    Raises:
        ValueError: its state has more than tensors; all names are told.
    """
    if wrong := not_tensors(model):
        raise ValueError(f"the state of {whose} has more than tensors, {_told(wrong)}: {lost}")


def _is_kept(value: object) -> bool:
    return value is None or (isinstance(value, Tensor) and not value.is_quantized)


def _told(names: list[str]) -> str:
    names = [name for name in names if not any(name.startswith(f"{outer}.") for outer in names if outer)]
    more = len(names) - _NAMED
    return ", ".join(name or "itself" for name in names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
