"""`scratchcard study TASK`: train, find tickets, run the controls, judge, report."""

from __future__ import annotations

import shlex
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from scratchcard.cli.report import check_place
from scratchcard.cli.terminal import say
from scratchcard.evidence.report import report as write_report
from scratchcard.evidence.summary import finished
from scratchcard.evidence.verdict import judge
from scratchcard.methods import METHODS
from scratchcard.methods.ticket import Method
from scratchcard.row import Rows
from scratchcard.study.limits import check_workers
from scratchcard.study.named import named_study, with_names, with_recipe
from scratchcard.study.study import Study, cores
from scratchcard.training.recipe import Recipe
from scratchcard.words import unknown

_FIELDS = [field.name for field in fields(Recipe)]
_NAMES = ("keep", "only")

TaskName = Annotated[
    str,
    typer.Argument(
        metavar="TASK",
        help="A built-in name (digits, mnist, cifar10, teacher, imagenet), path/to/file.py[:name], "
        "or package.module:name.",
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="FIELD=VALUE",
        help=f"Override a recipe field: {', '.join(_FIELDS)}; or what every method keeps whole, or cuts alone, by "
        "names that inspect prints: keep=conv1,output, only=*:heads.",
    ),
]

DataOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--data", metavar="OPTION=VALUE", help="Of a built-in task's data, e.g. size=16 and n=9000 of cifar10."
    ),
]


def study(
    task: TaskName,
    seeds: Annotated[str | None, typer.Option(help="How many, or which: 5, or 0,1,7.")] = None,
    rounds: Annotated[int | None, typer.Option(help="Pruning rounds of every method.")] = None,
    methods: Annotated[
        str | None,
        typer.Option(help="Which methods, by label, with the study's rounds and rates: " + ", ".join(METHODS) + "."),
    ] = None,
    controls: Annotated[
        str | None,
        typer.Option(help="Which controls: none, usual, paper, rethinking, all, or labels, e.g. scratch-e,scratch-b."),
    ] = None,
    control_levels: Annotated[
        str | None,
        typer.Option(help="Levels at which controls are run besides the primary one: all, primary, or 4,7,9."),
    ] = None,
    margin: Annotated[float | None, typer.Option(help="How much worse still counts as matching.")] = None,
    primary: Annotated[float | None, typer.Option(help="Density that the verdict is about.")] = None,
    measure: Annotated[str | None, typer.Option(help="Where in a run the metric is read: end or early_stop.")] = None,
    set_: Settings = None,
    data: DataOptions = None,
    store: Annotated[Path, typer.Option(help="Folder of finished runs.")] = Path("runs"),
    workers: Annotated[
        int | None, typer.Option(help="Processes of one thread each; default: as many as cores.")
    ] = None,
    to: Annotated[Path, typer.Option("--report", help="Where the report goes.")] = Path("report.html"),
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would run and what it would cost.")] = False,
) -> None:
    """Find smaller networks for a task, run the controls that say why they work, and give a verdict.

    Safe to stop or kill at any moment: the same command continues.
    """
    workers = check_workers(cores() if workers is None else workers)
    check_place(to)
    asked = _asked(
        study_of(task, set_, data), seeds, rounds, methods, controls, control_levels, margin, primary, measure
    )
    asked = with_names(asked, _settings(set_)[1])  # of the methods that were asked for by label, too
    asked = replace(asked, store=store, command=shlex.join(["scratchcard", *sys.argv[1:]]))
    if dry_run:
        say(f"{asked.task.data.describe()}\n{asked.plan().describe(workers)}")
        return
    rows = asked.run(workers=workers)
    say(judge(rows))
    if finished(rows):
        say(f"\nreport: {write_report(rows, to)}")
    end_of(rows)


def end_of(*studies: Rows) -> None:
    """End with exit code 1 where runs failed, so that a script that started the study knows."""
    failed = sum(row.status == "failed" and row.found for rows in studies for row in rows)
    if failed:
        say(f"{failed} run{'s' if failed > 1 else ''} failed; the same command tries again", err=True)
        raise typer.Exit(1)


def study_of(task: str, settings: list[str] | None, data: list[str] | None) -> Study:
    """The study that TASK and the options --set and --data stand for."""
    recipe, names = _settings(settings)
    return with_names(with_recipe(named_study(task, options_of("--data", data)), recipe), names)


def _settings(given: list[str] | None) -> tuple[dict[str, str], dict[str, str]]:
    """What --set says of the recipe, and of what methods keep or cut.

    Raises:
        ValueError: one without an equals sign, a name given twice, or one that is of neither.
    """
    for text in given or []:
        if "=" not in text:
            raise ValueError(f"--set takes FIELD=VALUE, got {text!r}; " + unknown("field", text, [*_FIELDS, *_NAMES]))
    found = options_of("--set", given)
    for name in found:
        if name not in (*_FIELDS, *_NAMES):
            raise ValueError(unknown("field", name, [*_FIELDS, *_NAMES]))
    names = {name: text for name, text in found.items() if name in _NAMES}
    return {name: text for name, text in found.items() if name not in _NAMES}, names


def options_of(option: str, given: list[str] | None) -> dict[str, str]:
    """What was given as NAME=VALUE, by name.

    Raises:
        ValueError: one without an equals sign, or a name given twice.
    """
    found: dict[str, str] = {}
    for text in given or []:
        name, equals, value = text.partition("=")
        if not equals:
            raise ValueError(f"{option} takes NAME=VALUE, e.g. size=16, got {text!r}")
        if name in found:
            raise ValueError(f"{option} gives {name} twice, {found[name]!r} and {value!r}; give it once")
        found[name] = value
    return found


def _asked(
    study: Study,
    seeds: str | None,
    rounds: int | None,
    methods: str | None,
    controls: str | None,
    control_levels: str | None,
    margin: float | None,
    primary: float | None,
    measure: str | None,
) -> Study:
    """The study with what the options say."""
    given: dict[str, Any] = {"margin": margin, "primary": primary, "measure": measure}
    if seeds is not None:
        given["seeds"] = seeds_of(seeds)
    if rounds is not None:
        chosen: Any = study.methods
        given["methods"] = [replace(method, rounds=rounds) for method in chosen]
    if methods is not None:
        # like one that has its rounds already: a method may refuse those of the study
        like = given.get("methods", study.methods)[0]
        given["methods"] = [_method(label, like) for label in _labels(methods)]
        if study.arms == replace(study, arms="usual").arms:  # none were named, so those usual for these methods
            given["arms"] = "usual"
    if controls is not None:
        presets = {"none": [], **{name: name for name in ("usual", "paper", "rethinking", "all")}}
        given["arms"] = presets.get(controls, _labels(controls))
        if not _labels(controls):
            raise ValueError(f"--controls takes labels or one of {', '.join(presets)}; got {controls!r}")
    if control_levels is not None and control_levels != "all":
        given["control_levels"] = [] if control_levels == "primary" else numbers("--control-levels", control_levels)
    return replace(study, **{name: value for name, value in given.items() if value is not None})


def _method(label: str, like: Any) -> Method:
    """The method of a label, with the rounds and rates of the study's own, and what that keeps and cuts besides."""
    if label not in METHODS:
        raise ValueError(unknown("method", label, METHODS))
    shared = {name: getattr(like, name) for name in ("rounds", "rate", "keep", "also") if hasattr(like, name)}
    method: Any = METHODS[label]
    if method.units != getattr(like, "units", "weights"):
        # rates of kinds of weights are not those of sites, nor is there more to cut than units
        wrong = {"also", *(() if isinstance(shared.get("rate"), float) else ("rate",))}
        shared = {name: value for name, value in shared.items() if name not in wrong}
    return replace(method, **{name: value for name, value in shared.items() if hasattr(method, name)})


def _labels(text: str) -> list[str]:
    return [label.strip() for label in text.split(",") if label.strip()]


def seeds_of(text: str) -> int | list[int]:
    """A number of seeds, or which."""
    if "," in text:
        return numbers("--seeds", text)
    try:
        return int(text)
    except ValueError as error:
        raise ValueError(f"--seeds takes a number of seeds or a list such as 0,1,7; got {text!r}") from error


def numbers(option: str, text: str) -> list[int]:
    """Whole numbers, separated by commas."""
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise ValueError(f"{option} takes a list of whole numbers such as 0,1,7; got {text!r}") from error
