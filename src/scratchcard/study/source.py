"""The digest of a piece of the user's code and of all code of theirs that it leads to; comments do not count.

The unit is the top-level statement (a function, a class, an assignment) in which a piece of code stands; every name it
uses is followed: to other statements of the file, to other files of the user's, to plain values. Code of installed
libraries is named, not read: library versions are recorded with each run instead.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import inspect
import sys
import sysconfig
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

_LIBRARIES = tuple(Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "purelib", "platlib"))


def source_digest(*roots: Any) -> str:
    """SHA-256 over the code and values reachable from `roots` (functions, classes, callable objects, plain values)."""
    reader = _Reader()
    told = [reader.tell(root) for root in roots]
    body = "\n".join([*told, *(f"{name}\n{text}" for name, text in sorted(reader.statements.items()))])
    return hashlib.sha256(body.encode()).hexdigest()


class _Reader:
    """Walks from values to the statements that define them, each read once."""

    def __init__(self) -> None:
        self.statements: dict[str, str] = {}

    def tell(self, value: Any) -> str:
        """A text that stands for the value; the statements it leads to are noted on the way."""
        if value is None or isinstance(value, bool | int | float | complex | str | bytes | type(...)):
            return repr(value)
        if isinstance(value, list | tuple):
            return f"{type(value).__name__}[{', '.join(map(self.tell, value))}]"
        if isinstance(value, set | frozenset):
            return f"set[{', '.join(sorted(map(self.tell, value)))}]"
        if isinstance(value, dict):
            return "dict[" + ", ".join(f"{self.tell(key)}: {self.tell(part)}" for key, part in value.items()) + "]"
        if isinstance(value, Tensor):
            bits = (
                value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
                if value.numel()
                else b""
            )
            return f"tensor {value.dtype} {tuple(value.shape)} {hashlib.sha256(bits).hexdigest()}"
        if isinstance(value, np.ndarray):
            return self.tell(torch.as_tensor(value)) if value.dtype.kind in "biuf" else repr(value)
        if isinstance(value, functools.partial):
            return f"partial[{self.tell(value.func)}, {self.tell(value.args)}, {self.tell(value.keywords)}]"
        if isinstance(value, types.ModuleType):
            return self._module(value)
        if isinstance(value, types.MethodType):
            return f"method[{self.tell(value.__self__)}, {self.tell(value.__func__)}]"
        if isinstance(value, types.FunctionType | type):
            return self._definition(value)
        if isinstance(value, nn.Module):
            return f"{self.tell(type(value))} {value!r} {self.tell(dict(value.state_dict()))}"
        if hasattr(value, "__dict__") and not isinstance(value, types.BuiltinFunctionType):
            return f"{self.tell(type(value))} {self.tell(dict(vars(value)))}"
        return f"{type(value).__module__}.{type(value).__qualname__} {getattr(value, '__qualname__', '')}"

    def _module(self, module: types.ModuleType) -> str:
        name = module.__name__
        if _is_the_users(module) and name not in self.statements:
            self.statements[name] = ""  # noted before it is followed: modules may import each other
            tree = ast.parse(inspect.getsource(module))
            self.statements[name] = ast.unparse(_without_docstrings(tree))
            for found in _names(tree):
                self._follow(found, vars(module))
        return f"module {name}"

    def _definition(self, value: Any) -> str:
        """A function or class: its statement, what its statement names, and what a closure holds."""
        module = sys.modules.get(value.__module__)
        name = f"{value.__module__}.{value.__qualname__}"
        if module is None or not _is_the_users(module):
            return name
        closed_over = ", ".join(self._cell(cell) for cell in getattr(value, "__closure__", None) or ())
        defaults = self.tell([getattr(value, "__defaults__", None), getattr(value, "__kwdefaults__", None)])
        statement = _statement_of(value, module)
        if statement is None:  # typed at a prompt: the byte code has neither comments nor line numbers
            code = getattr(value, "__code__", None)
            return f"{name} {self._code(code) if code else ''} [{closed_over}] {defaults}"
        key = f"{module.__name__}: {ast.dump(statement)}"
        if key not in self.statements:
            self.statements[key] = ast.unparse(_without_docstrings(statement))
            for found in _names(statement):
                self._follow(found, vars(module))
            for base in getattr(value, "__bases__", ()):
                self.tell(base)
        return f"{name} [{closed_over}] {defaults}"

    def _follow(self, name: str, namespace: dict[str, Any]) -> None:
        """Note what a name of a statement stands for in its module."""
        key = f"{namespace.get('__name__')}.{name}"
        if name in namespace and not name.startswith("__") and key not in self.statements:
            self.statements[key] = ""  # noted before it is followed: code may refer to itself
            self.statements[key] = self.tell(namespace[name])

    def _cell(self, cell: Any) -> str:
        try:
            return self.tell(cell.cell_contents)
        except ValueError:  # a cell that is still empty: the function refers to itself
            return "empty"

    def _code(self, code: types.CodeType) -> str:
        constants = [self._code(c) if isinstance(c, types.CodeType) else repr(c) for c in code.co_consts]
        return f"{code.co_code.hex()} {code.co_names} {constants}"


def _is_the_users(module: types.ModuleType) -> bool:
    """Code that may change under a study: the user's own files, and scratchcard's (the zoo's networks)."""
    if module.__name__.partition(".")[0] == "scratchcard":
        return module.__name__.startswith("scratchcard.networks.")
    file = getattr(module, "__file__", None)
    if file is None or not file.endswith(".py"):
        return module.__name__ == "__main__"
    return not any(Path(file).resolve().is_relative_to(library) for library in _LIBRARIES)


def _statement_of(value: Any, module: types.ModuleType) -> ast.stmt | None:
    """The top-level statement of the module in which the value was defined."""
    try:
        tree = ast.parse(inspect.getsource(module))
        line = value.__code__.co_firstlineno if hasattr(value, "__code__") else inspect.getsourcelines(value)[1]
    except (OSError, TypeError):
        return None
    for statement in tree.body:
        first = min([statement.lineno, *(d.lineno for d in getattr(statement, "decorator_list", []))])
        if first <= line <= (statement.end_lineno or first):
            return statement
    return None


def _names(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            yield node.id


def _without_docstrings(tree: Any) -> ast.AST:
    """A copy of the tree in which no function, class or module has a docstring."""
    copied = ast.parse(ast.unparse(tree))
    for node in ast.walk(copied):
        if (
            isinstance(node, ast.Module | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
            and ast.get_docstring(node) is not None
        ):
            node.body = node.body[1:] or [ast.Pass()]
    return copied
