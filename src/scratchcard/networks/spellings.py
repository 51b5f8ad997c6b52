"""One name for every spelling of an operator: in place or not, as a copy or as a view, under a name kept for NumPy."""

from __future__ import annotations

from typing import Any

OTHER_NAMES = {
    "__and__": "bitwise_and",
    "__or__": "bitwise_or",
    "__xor__": "bitwise_xor",
    "absolute": "abs",
    "arccos": "acos",
    "arccosh": "acosh",
    "arcsin": "asin",
    "arcsinh": "asinh",
    "arctan": "atan",
    "arctan2": "atan2",
    "arctanh": "atanh",
    "adjoint": "mT",
    "broadcast_to": "expand",
    "clip": "clamp",
    "column_stack": "hstack",
    "concat": "cat",
    "concatenate": "cat",
    "divide": "div",
    "fix": "trunc",
    "floor_divide": "div",
    "greater": "gt",
    "greater_equal": "ge",
    "ger": "outer",
    "less": "lt",
    "less_equal": "le",
    "linalg_matmul": "matmul",
    "matrix_H": "mT",
    "mH": "mT",
    "moveaxis": "movedim",
    "multiply": "mul",
    "native_channel_shuffle": "channel_shuffle",
    "negative": "neg",
    "not_equal": "ne",
    "row_stack": "vstack",
    "special_expit": "sigmoid",
    "special_softmax": "softmax",
    "special_log_softmax": "log_softmax",
    "special_logsumexp": "logsumexp",
    "subtract": "sub",
    "swapaxes": "transpose",
    "swapdims": "transpose",
    "true_divide": "div",
    "unsafe_chunk": "chunk",
    "unsafe_split": "split",
    "unsafe_split_with_sizes": "split_with_sizes",
    "_unsafe_view": "view",
}
"""Operator -> what it is called elsewhere; the arguments are the same ones in the same order."""


def spelled(target: Any) -> str:
    """An operator's own name, without overload: aten.add_.Tensor is add_; another library's has that before it."""
    library, _, rest = str(target).partition(".")
    name = rest.partition(".")[0]
    return name if library == "aten" else f"{library}::{name}" if name else library


def core_name(name: str) -> str:
    """What an operator does, by the one name for it: add_ is add, absolute is abs, permute_copy is permute."""
    plain = name
    while True:
        plain = OTHER_NAMES.get(plain, plain)
        shorter = plain[:-1] if plain.endswith("_") and not plain.endswith("__") else plain.removesuffix("_copy")
        if not shorter.strip("_") or shorter == plain or plain in ("_to_copy", "lift_fresh_copy", "index_copy"):
            return plain
        plain = shorter
