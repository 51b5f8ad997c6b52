"""What a person should know about a task and its data before anything is trained, as sentences."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

from scratchcard.methods.ticket import Method
from scratchcard.row import StudySpec
from scratchcard.study.spec import task_digest
from scratchcard.study.store import Store
from scratchcard.training.metrics import Metric, says_which_is_better
from scratchcard.training.task import Task


def about_task(task: Task) -> Iterator[str]:
    """Sentences about a trained model beside carved data, metrics that do not say what is better, masks, one class."""
    if task.start is not None and task.data.split_seed is not None:
        yield (
            f"The validation split of task {task.name!r} was carved from training examples, which the model that was "
            "brought may have seen: what is chosen there may be too good. Give examples that it has not seen: "
            "Data.from_tensors(..., validation=(inputs, targets))."
        )
    if not isinstance(task.metric, str | Metric) and not says_which_is_better(task.metric):
        name = task.measured_by.name
        yield (
            f"Of the metric {name!r} it is assumed that higher is better, and it is printed as a number, not in per "
            f"cent; sc.Metric({name!r}, ..., higher_is_better=False, fraction=True) says otherwise."
        )
    if masked := task.masked:
        yield (
            f"torch.nn.utils.prune has masked {', '.join(masked)} of task {task.name!r}: here these are plain weights, "
            "their masked entries 0 at the start and trained like all others."
        )
    for which, split in (("validation", task.data.validation), ("test", task.data.test)):
        if (alone := task.one_class(split)) is not None:
            yield (
                f"All {len(split):,} {which} targets of task {task.name!r} are class {alone}: what is measured there "
                "says nothing about other classes; were the examples shuffled before they were split?"
            )


def about_frozen(task: Task, methods: Iterable[Method]) -> Iterator[str]:
    """A sentence where methods that cut units meet frozen weights."""
    if any(method.units != "weights" for method in methods) and (frozen := task.sites.frozen):
        yield (
            f"The units of {', '.join(frozen)} of task {task.name!r} take entries from frozen weights (requires_grad "
            "is False): methods keep these units unless `only` names them."
        )


def about_other_data(task: Task, declared: StudySpec, store: Store) -> Iterator[str]:
    """A sentence where the store has runs of the same task, by name and code, with other data than today's."""
    found: set[str] = set()
    for path in (store.folder / "studies").glob("[!.]*.json"):
        try:
            content = json.loads(path.read_bytes())
            spec, runs = content["spec"], content["runs"]
            name, theirs, data = spec["task"], spec["task_digest"], spec.get("data_digest")
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue  # whoever reads studies says what is wrong with it
        if name != task.name or data in (None, declared.data_digest):
            continue
        if theirs == task_digest(task, data):  # the code of both is the same
            found |= set(runs)
    number = len(found & store.row_ids())
    if number:
        yield (
            f"The store {store.folder} has {number} run{'s' if number > 1 else ''} of task {task.name!r} with other "
            "data: is the split seeded? If it should be the same, draw all chance in making it from a fixed seed."
        )


def about_margin(declared: StudySpec, asked: float | None) -> Iterator[str]:
    """A sentence where the default margin could not be told before the runs."""
    if asked is None and declared.margin_kind == "relative":
        yield (
            f"The margin for matching is {100 * declared.margin:g} % of the dense networks' mean, which only the runs "
            f"will tell: what constant outputs reach in the {declared.metric} on the validation split cannot be "
            "calculated."
        )
