"""Identity of code: what changes the computation changes the digest, what does not leaves it."""

from __future__ import annotations

import importlib
import itertools
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from scratchcard.study.source import _Reader, source_digest

TASKS = '''
"""Networks of mine."""
import functools
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.functional import relu as act
from layers import Block

WIDTH = 5
TABLE = {"relu": nn.ReLU}

class Base(nn.Module):
    """What nets have in common."""
    scale = 1.0
    def forward(self, x):
        return act(self.layers(x)) * self.scale

class Net(Base):
    def __init__(self, depth=3, *, bias=True):
        """Make it."""
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, WIDTH, bias), TABLE["relu"](), Block(WIDTH), nn.Linear(WIDTH, 2))

def decorated(function):
    @functools.wraps(function)
    def inner():
        return function()
    return inner

def sized(width):
    def build():
        return nn.Linear(4, width)
    return build

class Factory:
    def __init__(self, width): self.width = width
    def __call__(self): return nn.Linear(4, self.width)
    def method(self): return nn.Linear(4, self.width)

class Focal(nn.Module):
    def __init__(self, gamma):
        super().__init__()
        self.gamma = gamma
    def forward(self, outputs, targets):
        return F.cross_entropy(outputs, targets) * self.gamma

def make():
    # five units
    return Net()

@decorated
def dressed():
    return Net()

def unrelated():
    return "as it was"
'''
LAYERS = """
from torch import nn
SLOPE = 0.1
class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.act = nn.LeakyReLU(SLOPE)
    def forward(self, x):
        return self.act(x)
"""

Digest = Callable[..., str]


@pytest.fixture
def digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Digest:
    """The digest of an expression in module `tasks`, freshly written (with its neighbours) and imported."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    number = itertools.count()

    def of(root: str = "make", text: str = TASKS, others: dict[str, str] | None = None) -> str:
        folder = tmp_path / str(next(number))
        files = {"tasks": text, "layers": LAYERS, **(others or {})}
        for name, content in files.items():
            path = folder / f"{name.replace('.', '/')}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        with monkeypatch.context() as patched:
            patched.syspath_prepend(folder)
            try:
                return source_digest(eval(root, vars(importlib.import_module("tasks"))))
            finally:
                packages = {name.partition(".")[0] for name in files}
                for name in [name for name in sys.modules if name.partition(".")[0] in packages]:
                    del sys.modules[name]

    return of


def edited(old: str, new: str, text: str = TASKS) -> str:
    assert text.count(old) == 1, f"{old!r} is to stand once in the text"
    return text.replace(old, new)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("# five units", "# 5 units, as measured"),
        ("def make():\n", "def make():\n\n"),
        ('"""Make it."""', '"""Make it, with care."""'),
        ('"""What nets have in common."""', ""),
        ('"""Networks of mine."""', '"""Networks."""'),
        ("as it was", "quite another thing"),
        ("depth=3, *, bias=True", "depth = 3,\n  *, bias = True"),
    ],
)
def test_comments_docstrings_layout_and_unrelated_code_leave_the_identity(digest: Digest, old: str, new: str) -> None:
    assert digest(text=edited(old, new)) == digest()


def test_the_same_code_in_another_folder_has_the_same_identity(digest: Digest) -> None:
    assert digest() == digest()


@pytest.mark.parametrize("root", ["make", "dressed", "Net", "functools.partial(Net)", "lambda: Net()", "[make]"])
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("WIDTH = 5", "WIDTH = 6"),
        ("depth=3", "depth=4"),
        ("bias=True", "bias=False"),
        ("scale = 1.0", "scale = 2.0"),
        ("act(self.layers(x)) * ", "self.layers(x) * "),
        ("import relu as act", "import gelu as act"),
        ('{"relu": nn.ReLU}', '{"relu": nn.Tanh}'),
        ("class Base(nn.Module):", "class Older(nn.Module): train = None\nclass Base(Older):"),
        ("nn.Linear(WIDTH, 2)", "nn.Linear(WIDTH, 2), nn.Tanh()"),
    ],
)
def test_what_the_factory_leads_to_is_identity(digest: Digest, root: str, old: str, new: str) -> None:
    if root.startswith("lambda"):
        root, make = "it", "\nit = lambda: Net()\n"
        assert digest(root, TASKS + make) != digest(root, edited(old, new) + make)
    else:
        assert digest(root) != digest(root, edited(old, new))


@pytest.mark.parametrize(("old", "new"), [("SLOPE = 0.1", "SLOPE = 0.2"), ("self.act(x)", "self.act(x) + 1")])
@pytest.mark.parametrize(
    "how",
    [
        "from layers import Block",
        "import layers\nBlock = layers.Block",
        "from layers import *",
        "from layers import Block as B\nBlock = B",
        "def Block(width):\n    from layers import Block as B\n    return B(width)",
        "def Block(width):\n    import layers\n    return layers.Block(width)",
    ],
)
def test_a_layer_in_a_second_file_is_identity(digest: Digest, how: str, old: str, new: str) -> None:
    text = edited("from layers import Block", how)
    assert digest(text=text) != digest(text=text, others={"layers": edited(old, new, LAYERS)})


def test_a_comment_in_a_second_file_is_not_identity(digest: Digest) -> None:
    assert digest() == digest(others={"layers": LAYERS + "# the end\n"})


@pytest.mark.parametrize(
    ("how", "init"),
    [
        ("import mine.layers\nBlock = mine.layers.Block", ""),
        ("import mine.layers\ndef Block(width): return mine.layers.Block(width)", ""),
        ("import mine.layers as l\ndef Block(width): return l.Block(width)", ""),
        ("import mine\ndef Block(width): return mine.Block(width)", "from mine.layers import Block\n"),
        ("import mine\ndef Block(width): return mine.Block(width)", "from .layers import Block\n"),
    ],
)
def test_a_layer_in_a_package_is_identity(digest: Digest, how: str, init: str) -> None:
    text = edited("from layers import Block", how)
    package = {"mine.__init__": init, "mine.layers": LAYERS}
    changed = {**package, "mine.layers": edited("SLOPE = 0.1", "SLOPE = 0.2", LAYERS)}
    assert digest(text=text, others=package) != digest(text=text, others=changed)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("sized(3)", "sized(4)"),
        ("functools.partial(nn.Linear, 4, 3)", "functools.partial(nn.Linear, 4, 5)"),
        ("functools.partial(Net, bias=True)", "functools.partial(Net, bias=False)"),
        ("Factory(3)", "Factory(4)"),
        ("Factory(3).method", "Factory(4).method"),
        ("Factory(3)", "Factory(3).method"),
        ("Focal(1.0)", "Focal(2.0)"),
        ("nn.CrossEntropyLoss()", "nn.CrossEntropyLoss(label_smoothing=0.1)"),
        ("nn.BCEWithLogitsLoss()", "nn.MultiLabelSoftMarginLoss()"),
        ("F.cross_entropy", "F.mse_loss"),
        ("make", "dressed"),
        ("Net", "Base"),
        ("torch.tensor([1.0])", "torch.tensor([1.5])"),
        ("torch.tensor([1.0])", "torch.tensor([1.0], dtype=torch.float64)"),
    ],
)
def test_two_different_callables_or_values_have_two_identities(digest: Digest, one: str, other: str) -> None:
    assert digest(one) != digest(other)


def test_two_lambdas_of_one_statement_are_told_apart(digest: Digest) -> None:
    text = TASKS + "\nPAIR = {'a': lambda o, t: (o - t).abs().mean(), 'b': lambda o, t: (o - t).pow(2).mean()}\n"
    assert digest("PAIR['a']", text) != digest("PAIR['b']", text)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1", "1.0"),
        ("1", "True"),
        ("1", "'1'"),
        ("(1, 2)", "(1, 3)"),
        ("{'a': 1}", "{'a': 2}"),
        ("{1, 2}", "{1, 3}"),
        ("range(3)", "range(4)"),
        ("slice(3)", "slice(4)"),
        ("torch.float32", "torch.float64"),
        ("np.float32(0.1)", "np.float32(0.2)"),
        ("np.arange(3)", "np.arange(1, 4)"),
        ("np.array(['a'])", "np.array(['b'])"),
        ("np.arange(2000) + 0j", "np.arange(2000) + 0j * (np.arange(2000) == 1000) + (np.arange(2000) == 1000)"),
        ("np.sin", "np.cos"),
        ("Path('a')", "Path('b')"),
        ("Fraction(1, 2)", "Fraction(1, 3)"),
        ("re.compile('a')", "re.compile('b')"),
        ("deque([1])", "deque([2])"),
        ("Colour.RED", "Colour.BLUE"),
        ("Slotted(1)", "Slotted(2)"),
        ("operator.itemgetter(0)", "operator.itemgetter(1)"),
    ],
)
def test_a_constant_of_any_kind_is_identity(digest: Digest, one: str, other: str) -> None:
    text = """
import enum, operator, re
from collections import deque
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
import numpy as np
import torch
class Colour(enum.Enum):
    RED = 1
    BLUE = 2
@dataclass(frozen=True, slots=True)
class Slotted:
    gamma: float
VALUE = {}
def make():
    return VALUE
"""
    assert digest(text=text.replace("VALUE = {}", f"VALUE = {one}")) != digest(
        text=text.replace("VALUE = {}", f"VALUE = {other}")
    )


def test_code_of_a_callable_object_without_dict_is_identity(digest: Digest) -> None:
    text = """
class Loss:
    __slots__ = ()
    def __call__(self, outputs, targets):
        return (outputs - targets).abs().mean()
"""
    assert digest("Loss()", text) != digest("Loss()", edited("abs()", "square()", text))


@pytest.mark.parametrize(
    "text",
    [
        "class Loss:\n    def __init__(self): self.how = self.of\n    def of(self, o, t): return o\nvalue = Loss()",
        "class Node:\n    pass\nvalue = Node()\nvalue.me = value",
        "def value():\n    return other()\ndef other():\n    return value()",
        "value = []\nvalue.append(value)",
    ],
)
def test_code_that_refers_to_itself_has_an_identity(digest: Digest, text: str) -> None:
    assert len(digest("value", text)) == 64


def run_cell(cell: str, monkeypatch: pytest.MonkeyPatch, where: str = "__main__") -> dict[str, Any]:
    """Run code as a notebook or prompt does: there is no file to read it from."""
    module = types.ModuleType(where)
    if where == "__main__":
        monkeypatch.setitem(sys.modules, where, module)
    exec(compile(cell, "<cell 1>", "exec"), vars(module))
    return vars(module)


CELL = """
from torch import nn
WIDTH = 5
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 2)
    def forward(self, x):
        # plain
        return self.layer(x)
def scale(x): return x * WIDTH
def make():
    return scale(Net())
"""


@pytest.mark.parametrize("where", ["__main__", "made_by_exec"])
@pytest.mark.parametrize(
    ("old", "new"),
    [("WIDTH = 5", "WIDTH = 6"), ("self.layer(x)", "self.layer(x) + 1"), ("x * WIDTH", "x + WIDTH"), ("scale(N", "(N")],
)
def test_code_typed_at_a_prompt_is_identity_too(
    monkeypatch: pytest.MonkeyPatch, where: str, old: str, new: str
) -> None:
    before = source_digest(run_cell(CELL, monkeypatch, where)["make"])
    assert before == source_digest(run_cell(edited("# plain", "", CELL), monkeypatch, where)["make"])
    assert before != source_digest(run_cell(edited(old, new, CELL), monkeypatch, where)["make"])


def test_the_identity_does_not_depend_on_the_order_of_sets_in_this_process(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "NAMES = {'a', 'b', 'c', 'd'}\ncode = 'def typed(x): return x in {\"a\", \"b\", \"c\", \"d\"}'\n"
        "def make(): return NAMES\nimport sys, types\n__main__ = sys.modules['__main__']\n"
        "exec(code, vars(__main__))\n"
        "from scratchcard.study.source import source_digest\n"
        "print(source_digest(make), source_digest(__main__.typed))\n"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", "import mine"],
            cwd=tmp_path,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(said) == 1, f"two identities for the same code: {said}"


def test_a_library_is_named_not_read() -> None:
    assert source_digest(nn.Linear) == source_digest(nn.Linear)
    assert source_digest(nn.Linear) != source_digest(nn.Conv2d)


@pytest.mark.parametrize(
    "how", ["import scratchcard as sc", "from scratchcard import zoo", "import scratchcard.networks.zoo"]
)
def test_a_network_of_the_zoo_is_read_however_it_is_called(
    monkeypatch: pytest.MonkeyPatch, how: str, tmp_path: Path
) -> None:
    """Networks of ours may change too: their text is identity, that of the rest of the zoo is not."""
    name = {"import scratchcard as sc": "sc.zoo", "from scratchcard import zoo": "zoo"}.get(
        how, "scratchcard.networks.zoo"
    )
    (tmp_path / "zoo_user.py").write_text(f"{how}\ndef model():\n    return {name}.lenet_300_100(inputs=8)\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "zoo_user", raising=False)
    reader = _Reader()
    reader.tell(importlib.import_module("zoo_user").model)
    text = "\n".join(reader.parts)
    assert "nn.Linear(inputs, first)" in text
    assert "BatchNorm2d" not in text
    monkeypatch.delitem(sys.modules, "zoo_user")
