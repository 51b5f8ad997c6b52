"""The digest of a piece of the user's code and of all code of theirs that it leads to; comments do not count.

The unit is the top-level statement (a function, a class, an assignment) in which a piece of code stands; every name it
uses is followed: to other statements of the file, to other files of the user's, to plain values. Code of installed
libraries is named, not read: library versions are recorded with each run instead.
"""

from __future__ import annotations

import ast
import copyreg
import hashlib
import importlib
import importlib.util
import inspect
import sys
import sysconfig
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from scratchcard.networks.forward import state_digest

_LIBRARIES = tuple(Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "purelib", "platlib"))
_PLAIN = (bool, int, float, complex, str, bytes, type(None), type(...))


def source_digest(*roots: Any) -> str:
    """SHA-256 over the code and values reachable from `roots`: functions, classes, callable objects, plain values."""
    reader = _Reader()
    told = [reader.tell(root) for root in roots]
    return hashlib.sha256("\n".join([*told, *sorted(reader.parts)]).encode()).hexdigest()


class _Reader:
    """Walks from values to the statements that define them, each read once."""

    def __init__(self) -> None:
        self.parts: set[str] = set()
        self._followed: set[tuple[int, str]] = set()
        self._open: list[int] = []
        self._told: dict[int, tuple[Any, str]] = {}
        self._trees: dict[str, ast.Module | None] = {}

    def tell(self, value: Any) -> str:
        """A text that stands for the value; the statements it leads to are noted on the way."""
        if isinstance(value, _PLAIN):
            return f"{type(value).__name__} {value!r}"
        if isinstance(value, Tensor):
            return f"tensor {state_digest({'': value})}"
        if isinstance(value, np.ndarray) and value.dtype.kind in "biufc":
            return f"array {value.dtype} {value.shape} {hashlib.sha256(value.tobytes()).hexdigest()}"
        if id(value) in self._open:  # a value inside itself: named by how far out it was opened
            return f"itself {len(self._open) - self._open.index(id(value))}"
        if id(value) not in self._told:
            self._open.append(id(value))
            text = self._tell(value)
            self._open.pop()
            # what is shared is read once; the value is held, so that its id stays its own
            self._told[id(value)] = value, hashlib.sha256(text.encode()).hexdigest()
        return self._told[id(value)][1]

    def _tell(self, value: Any) -> str:
        kind = type(value).__name__
        if isinstance(value, list | tuple):
            return f"{kind}[{', '.join(map(self.tell, value))}]"
        if isinstance(value, set | frozenset):
            return f"{kind}[{', '.join(sorted(map(self.tell, value)))}]"
        if type(value) is dict or isinstance(value, types.MappingProxyType):
            return "dict[" + ", ".join(f"{self.tell(key)}: {self.tell(part)}" for key, part in value.items()) + "]"
        if isinstance(value, types.ModuleType):
            return self._module(value)
        if isinstance(value, types.FunctionType | type):
            return self._definition(value)
        if isinstance(value, types.MethodType):
            return f"method {value.__func__.__qualname__} of {self.tell(value.__self__)}"
        if isinstance(value, types.CodeType):
            parts = [value.co_code, value.co_names, [c for c in value.co_consts if c != value.co_qualname]]
            return f"code[{', '.join(map(self.tell, parts))}]"
        if isinstance(value, types.CellType):
            return self.tell(value.cell_contents) if value != types.CellType() else "empty"
        try:  # any other object says itself what it is made of, as it would to be copied
            reduce = copyreg.dispatch_table.get(type(value))
            made = reduce(value) if reduce is not None else value.__reduce_ex__(4)
        except Exception:  # a lock, a file, a generator: nothing that could be copied can be told
            return f"{self.tell(type(value))} that cannot be read"
        if isinstance(made, str):
            return f"{type(value).__module__}.{made}"
        return f"{self.tell(type(value))}{[self.tell(list(p) if isinstance(p, Iterator) else p) for p in made]}"

    def _module(self, module: types.ModuleType) -> str:
        tree = self._tree(module) if _is_the_users(module) else None
        if tree is not None:
            self._note(tree, module.__name__, vars(module))
        return f"module {module.__name__}"

    def _definition(self, value: Any) -> str:
        """A function or class: its statement, what its statement names, and what a closure holds."""
        name, module = f"{value.__module__}.{value.__qualname__}", sys.modules.get(value.__module__)
        if module is not None and not _is_the_users(module):
            return name
        held = [getattr(value, own, None) for own in ("__closure__", "__defaults__", "__kwdefaults__")]
        statement = self._statement(value, module) if module is not None else None
        if statement is not None and module is not None:
            self._note(statement, module.__name__, vars(module))
        elif inspect.isfunction(value):  # typed at a prompt: there is no text, but there is byte code
            held.append(value.__code__)
            self._follow(_names_in(value.__code__), value.__globals__)
        else:
            own = {key: part for key, part in vars(value).items() if key not in ("__dict__", "__weakref__", "__doc__")}
            held.append({key: part for key, part in own.items() if not isinstance(part, types.GetSetDescriptorType)})
        if inspect.isfunction(value) and value.__name__ == "<lambda>":  # several may stand in one statement
            held.append(value.__code__)
        return f"{name} {self.tell([*held, *getattr(value, '__bases__', ())])}"

    def _note(self, tree: ast.AST, module: str, namespace: Mapping[str, Any]) -> None:
        """Note a statement or file, and follow every name in it."""
        text = f"{module}: {ast.unparse(_without_docstrings(tree))}"
        if text not in self.parts:
            self.parts.add(text)
            self._follow(_names_of(tree), namespace)
            for name in _imported_within(tree, str(namespace.get("__package__") or "")):
                self._import(name)

    def _follow(self, dotted: Iterator[list[str]], namespace: Mapping[str, Any]) -> None:
        """Note what names such as `WIDTH` and `layers.Block` stand for in a module."""
        for first, *rest in dotted:
            if first not in namespace or first.startswith("__"):
                continue
            value, name = namespace[first], first
            while rest and isinstance(value, types.ModuleType) and hasattr(value, rest[0]):
                if not _is_ours(value):  # of ours, what is named is read: `sc.zoo.lenet_300_100`, not all of the zoo
                    if not _is_the_users(value):
                        break
                    self.tell(value)
                name, value = f"{name}.{rest[0]}", getattr(value, rest.pop(0))
            if (id(namespace), name) not in self._followed:
                self._followed.add((id(namespace), name))
                self.parts.add(f"{namespace.get('__name__')}.{name} = {self.tell(value)}")

    def _import(self, name: str) -> None:
        try:
            self.tell(importlib.import_module(name))
        except Exception:  # an import inside a function may never be reached, or never succeed
            self.parts.add(f"import {name}")

    def _statement(self, value: Any, module: types.ModuleType) -> ast.stmt | None:
        """The top-level statement of the module in which the value was defined."""
        tree = self._tree(module)
        try:
            line = value.__code__.co_firstlineno if inspect.isfunction(value) else inspect.getsourcelines(value)[1]
        except (OSError, TypeError):
            return None
        if tree is None or (
            inspect.isfunction(value) and inspect.getsourcefile(value) != inspect.getsourcefile(module)
        ):
            return None
        for statement in tree.body:
            first = min([statement.lineno, *(d.lineno for d in getattr(statement, "decorator_list", []))])
            if first <= line <= (statement.end_lineno or first):
                return statement
        return None

    def _tree(self, module: types.ModuleType) -> ast.Module | None:
        name = module.__name__
        if name not in self._trees:
            try:
                self._trees[name] = ast.parse(inspect.getsource(module))
            except (OSError, TypeError):
                self._trees[name] = None
        return self._trees[name]


def _is_ours(module: types.ModuleType) -> bool:
    return module.__name__.partition(".")[0] == "scratchcard"


def _is_the_users(module: types.ModuleType) -> bool:
    """Code that may change under a study: the user's own files, and scratchcard's (the zoo's networks)."""
    if _is_ours(module):
        return module.__name__.startswith("scratchcard.networks.")
    file = getattr(module, "__file__", None)
    if file is None or not file.endswith(".py"):
        return module.__name__ == "__main__"
    return not any(Path(file).resolve().is_relative_to(library) for library in _LIBRARIES)


def _names_of(tree: ast.AST) -> Iterator[list[str]]:
    """Every name a piece of code reads or imports, with its attributes: `a.b.c` is ["a", "b", "c"], and not "a" too."""
    if isinstance(tree, ast.Import | ast.ImportFrom):
        yield from ([alias.asname or alias.name.partition(".")[0]] for alias in tree.names)
        return
    dotted: list[str] = []
    while isinstance(tree, ast.Attribute):
        dotted.insert(0, tree.attr)
        tree = tree.value
    if isinstance(tree, ast.Name):
        yield [tree.id, *dotted]
        return
    for part in ast.iter_child_nodes(tree):
        yield from _names_of(part)


def _names_in(code: types.CodeType) -> Iterator[list[str]]:
    """Every name that byte code reads, that of functions inside it included."""
    yield from ([name] for name in code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names_in(constant)


def _imported_within(tree: ast.AST, package: str) -> Iterator[str]:
    """The modules that are imported inside functions of a piece of code."""
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            for node in ast.walk(function):
                if isinstance(node, ast.Import):
                    yield from (alias.name for alias in node.names)
                elif isinstance(node, ast.ImportFrom):
                    relative = "." * node.level + (node.module or "")
                    yield importlib.util.resolve_name(relative, package) if node.level and package else relative


def _without_docstrings(tree: ast.AST) -> ast.AST:
    """A copy of the tree in which no function, class or module has a docstring."""
    copied = ast.parse(ast.unparse(tree))
    for node in ast.walk(copied):
        documented = isinstance(node, ast.Module | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        if documented and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or ([] if isinstance(node, ast.Module) else [ast.Pass()])
    return copied
