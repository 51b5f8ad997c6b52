"""What TASK on the command line stands for: a built-in name, a file, or a name in a package."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, cast, get_type_hints

import cloudpickle
from pydantic import TypeAdapter, ValidationError

from scratchcard.fields import fits, needed
from scratchcard.study.builtin import BUILT_IN
from scratchcard.study.study import Study
from scratchcard.training.recipe import MOST, Recipe
from scratchcard.training.sources import SOURCES
from scratchcard.training.task import Task
from scratchcard.words import unknown


def named_study(name: str, data: Mapping[str, str] | None = None) -> Study:
    """The study that a name stands for.

    Args:
        name: "mnist" (see `BUILT_IN`), "path/to/file.py", "path/to/file.py:name" or "package.module:name". What is
            found there is a `Study`, or a `Task` - in a file without a name, `study` or `task`; beside a task, a
            `recipe` and `methods` of the same file are used when they are there.
        data: options of a built-in study's data, e.g. {"size": "16", "n": "9000"}.

    Raises:
        ValueError: the name is not known, the file cannot be run, or there is no study or task in it.
    """
    if name in BUILT_IN:
        return BUILT_IN[name](**{option: _option(name, option, text) for option, text in (data or {}).items()})
    if data:
        raise ValueError(
            f"data options are for built-in tasks, got {', '.join(data)} for {name!r}; change the task file's data"
        )
    where, _, attribute = name.partition(":")
    if where.endswith(".py"):
        module = _run_file(Path(where))
    elif attribute:
        module = _import(where)
    else:
        raise ValueError(unknown("task", name, BUILT_IN) + "; or give path/to/file.py[:name] or package.module:name")
    return _study_in(module, where, attribute)


def with_recipe(study: Study, settings: Mapping[str, str]) -> Study:
    """The study with fields of its recipe set from text: {"lr": "0.1", "milestones": "2000,2500"}.

    Raises:
        ValueError: a field that a recipe does not have, or a value it cannot take.
    """
    hints = get_type_hints(Recipe)
    values: dict[str, Any] = {}
    for name, text in settings.items():
        if name not in hints:
            raise ValueError(unknown("recipe field", name, hints))
        several = getattr(hints[name], "__origin__", None) is tuple
        given = tuple(part.strip() for part in text.split(",") if part.strip()) if several else text
        try:
            values[name] = TypeAdapter(hints[name]).validate_python(given) if name != "optimizer" else text
        except ValidationError as error:
            raise ValueError(f"the recipe's {name} cannot be {text!r}: {error.errors()[0]['msg']}") from error
    return replace(study, recipe=replace(study.recipe, **values))


def with_names(study: Study, settings: Mapping[str, str]) -> Study:
    """The study whose methods keep, or only cut, what is named: {"keep": "conv1,*.shortcut.*", "only": "1:heads"}.

    Raises:
        ValueError: a method of the study that takes no such names.
    """
    names = {field: tuple(part.strip() for part in text.split(",") if part.strip()) for field, text in settings.items()}
    without = [method.label for method in study.methods for field in names if not hasattr(method, field)]
    if without:
        raise ValueError(f"{' and '.join(names)} cannot be set: the method {without[0]} has no such field")
    changed: list[Any] = [replace(cast(Any, method), **names) for method in study.methods]
    return replace(study, methods=changed) if names else study


def _option(name: str, option: str, text: str) -> int | float | str:
    """The value of a built-in task's data option, read from text.

    Raises:
        ValueError: there is no such option, or it takes something else.
    """
    source, value = inspect.unwrap(SOURCES[name]), _plain(text)
    hints = {of: hint for of, hint in get_type_hints(source).items() if of != "return"}
    if option not in hints:
        raise ValueError(unknown(f"data option of {name!r}:", option, hints))
    if not fits(value, hints[option]):
        raise ValueError(f"the data option {option} of {name!r} must be {needed(hints[option])}, got {text!r}")
    if isinstance(value, int | float) and not abs(value) <= MOST:
        raise ValueError(f"the data option {option} of {name!r} must be at most {MOST:,}, got {text!r}")
    return value


def _plain(text: str) -> int | float | str:
    """Read a number where the text is one."""
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return text


def _run_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise ValueError(f"there is no task file {path}; give the path of a Python file that defines a Task")
    sys.path.insert(0, str(path.parent.resolve()))  # as Python does for a script, so that it can import its neighbours
    name = path.stem if path.stem not in sys.modules else f"task_file_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path.resolve())
    assert spec is not None, "a path that ends in .py can be loaded"
    assert spec.loader is not None, "a path that ends in .py can be loaded"
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # whatever a user's file may raise while it is run
        del sys.modules[name]
        raise ValueError(f"the task file {path} cannot be run: {_where(error, path)}") from error
    cloudpickle.register_pickle_by_value(module)  # a worker process cannot import it by its name
    return module


def _import(name: str) -> ModuleType:
    sys.path.insert(0, "")
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:  # whatever a user's module may raise while it is imported
        raise ValueError(f"the module {name!r} cannot be imported: {type(error).__name__}: {error}") from error


def _study_in(module: ModuleType, where: str, attribute: str) -> Study:
    candidates = [attribute] if attribute else ["study", "task"]
    found = next((vars(module)[name] for name in candidates if name in vars(module)), None)
    if isinstance(found, Study):
        return found
    if isinstance(found, Task):
        beside = {name: vars(module)[name] for name in ("recipe", "methods") if name in vars(module)}
        return Study(found, **beside)
    there = [name for name, value in vars(module).items() if isinstance(value, Study | Task)]
    if found is not None:
        raise ValueError(
            f"{where}:{attribute or candidates[0]} is a {type(found).__name__}; an sc.Task or sc.Study is needed"
        )
    hint = f"it has {', '.join(there)}: write {where}:{there[0]}" if there else "define `task = sc.Task(...)` in it"
    raise ValueError(f"{where} has no {' or '.join(candidates)}; {hint}")


def _where(error: BaseException, path: Path) -> str:
    lines = [
        frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path.resolve())
    ]
    line = getattr(error, "lineno", None) if isinstance(error, SyntaxError) else lines[-1] if lines else None
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" + (f" (line {line})" if line and f"line {line}" not in text else "")
