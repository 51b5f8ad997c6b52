"""Do scores at initialisation beat chance where the truth is known? Test loss of tickets of the planted teacher.

python benchmarks/scores_on_the_teacher.py measure
python benchmarks/scores_on_the_teacher.py

The first command trains 1,120 tiny networks and writes what was measured into docs/results/rows, then the page; the
second writes the page again. `measure 50 kaiming` takes other seeds and another initialisation of the student.

The teacher reads 4 of 16 inputs through 8 hidden units; the student has 24 hidden units, initialised as torch does, or
"glorot" or "kaiming". Every ticket is trained alike; differences are paired by seed, so they share initial
weights and the order of the data. Against "random" (every layer at the same density) a score may win by how many
weights it leaves in each layer, or by which; against its own mask, shuffled within the layers, by which alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean
from typing import Any

import torch
from pages import listed, main, records_page, table
from torch import nn

from scratchcard.evidence.statistics import t_interval
from scratchcard.evidence.summary import density_text
from scratchcard.masks.select import shuffle
from scratchcard.methods.at_init import AtInit
from scratchcard.networks.initialise import INITIALISATIONS
from scratchcard.networks.subnetwork import MaskedWeights
from scratchcard.training.evaluate import evaluate
from scratchcard.training.loop import train
from scratchcard.training.recipe import Recipe
from scratchcard.training.seeds import derive
from scratchcard.training.task import Task
from scratchcard.training.teacher import planted_teacher

TEACHER = {"seed": 1, "inputs": 16, "relevant": 4, "hidden": 8, "connections": 2}
STUDENT = {"inputs": 16, "hidden": 24}
RECIPE = Recipe(steps=300, lr=0.01, batch_size=50, eval_every=300)
LEVELS: dict[str, Any] = {"rounds": 4, "rate": 0.5}
RANDOM = AtInit("random", **LEVELS)
METHODS = (
    RANDOM,
    AtInit("random", scope="erk", **LEVELS),
    AtInit("magnitude", **LEVELS),
    AtInit("magnitude", scope="global", **LEVELS),
    AtInit("snip", **LEVELS),
    AtInit("grasp", **LEVELS),
    AtInit("synflow", **LEVELS),
)
LOSS = "mse"
ALPHA = 0.05
Record = dict[str, Any]


# measuring


def student(init: str) -> nn.Module:
    model = nn.Sequential(nn.Linear(STUDENT["inputs"], STUDENT["hidden"]), nn.ReLU(), nn.Linear(STUDENT["hidden"], 1))
    return INITIALISATIONS[init](model) if init in INITIALISATIONS else model


def trained(task: Task, subnetwork: MaskedWeights, seed: int) -> float:
    """Test loss of a subnetwork of the seed's initial weights after training."""
    model = subnetwork.trainable(task.at_start(seed))
    for _ in train(model, task.data, task.loss_of, RECIPE, seed, (RECIPE.steps,)):
        pass
    return evaluate(model, task, task.data.test, RECIPE)[0]


def asked(method: AtInit) -> Record:
    """How a score is calculated, in words for the page."""
    # the student's loss is no cross-entropy, so that GraSP divides its outputs by nothing unless told to
    softened = (method.temperature or 1.0) if method.score == "grasp" else None
    return {"score": method.score, "scope": method.scope, "iterations": method.iterations, "examples": method.examples,
            "mode": method.mode, "temperature": softened}  # fmt: skip


def measure(seeds: int, init: str) -> Iterator[Record]:
    """What was asked, then one record per ticket."""
    yield {"seeds": seeds, "student": {**STUDENT, "initialised": init}, "teacher": TEACHER, "loss": LOSS,
           "recipe": RECIPE.fields(), "methods": {method.label: asked(method) for method in METHODS},
           "torch": torch.__version__}  # fmt: skip
    data, _, truth = planted_teacher(**TEACHER, train=1000, validation=100, test=1000)
    read = truth["0.weight"].any(0)
    task = Task("planted", lambda: student(init), data, loss=LOSS, metric=LOSS)
    for method in METHODS:
        densities = method.densities(task)
        for seed in range(seeds):
            for ticket in method.find(task, RECIPE, seed, lambda *_: iter(())):
                mask = ticket.subnetwork.mask
                chance = torch.Generator().manual_seed(derive(seed, "shuffled", method.label, ticket.level))
                places = MaskedWeights(shuffle(mask, ticket.prunable, "layer", chance))
                yield {
                    "method": method.label,
                    "level": ticket.level,
                    "density": densities[ticket.level],
                    "seed": seed,
                    "loss": trained(task, ticket.subnetwork, seed),
                    "shuffled": trained(task, places, seed),
                    "useful": float(mask["0.weight"][:, read].sum() / mask["0.weight"].sum()),
                }


def collect(_: str, seeds: str = "20", init: str = "torch") -> list[list[Record]]:
    return [list(measure(int(seeds), init))]


# the page


@dataclass(frozen=True)
class Difference:
    """Test loss of a ticket minus another's, paired by seed; the lower the better."""

    method: str
    density: float
    values: list[float]
    alpha: float

    @cached_property
    def ends(self) -> tuple[float, float]:
        low, high = t_interval(self.values, self.alpha)
        return float(low), float(high)

    @property
    def claim(self) -> str:
        return "better" if self.ends[1] < 0 else "worse" if self.ends[0] > 0 else "not shown"

    def __str__(self) -> str:
        return f"{fmean(self.values):+.3f} [{self.ends[0]:+.3f}, {self.ends[1]:+.3f}]: {self.claim}"


class Measured:
    """The records by method and level, and their differences."""

    def __init__(self, records: Sequence[Record]) -> None:
        self.asked, *tickets = records
        self.groups: dict[tuple[str, int], list[Record]] = {}
        for record in sorted(tickets, key=lambda record: record["seed"]):
            self.groups.setdefault((record["method"], record["level"]), []).append(record)
        self.keys = [(label, level) for label in self.asked["methods"] for label_, level in sorted(self.groups)
                     if label_ == label]  # fmt: skip
        scored = [key for key in self.keys if key[0] != RANDOM.label]
        self.compared = len(self.keys) + len(scored)
        self.by_chance = {key: self._minus(key, self._values((RANDOM.label, key[1]), "loss")) for key in scored}
        self.by_places = {key: self._minus(key, self._values(key, "shuffled")) for key in self.keys}

    def _values(self, key: tuple[str, int], name: str) -> list[float]:
        return [record[name] for record in self.groups[key]]

    def _minus(self, key: tuple[str, int], other: list[float]) -> Difference:
        values = [a - b for a, b in zip(self._values(key, "loss"), other, strict=True)]
        return Difference(key[0], self.groups[key][0]["density"], values, ALPHA / self.compared)

    def mean(self, key: tuple[str, int], name: str) -> float:
        return fmean(self._values(key, name))


def shown(found: Sequence[Difference]) -> str:
    """At which densities differences are shown, in words."""
    told = []
    for claim in ("better", "worse"):
        at = [density_text(one.density) for one in found if one.claim == claim]
        if at:
            told.append(f"{claim} at {'every density' if len(at) == len(found) else listed(at)}")
    if not told:
        return "no difference is shown at any density"
    return " and ".join(told) + (", else not shown" if any(one.claim == "not shown" for one in found) else "")


def of(method: str, found: dict[tuple[str, int], Difference]) -> list[Difference]:
    return [one for key, one in found.items() if key[0] == method]


def answer(records: Sequence[Record]) -> str:
    """Which scores beat chance, and where."""
    m = Measured(records)
    return "Against chance: " + "; ".join(
        f"{label}: {shown(of(label, m.by_chance))}" for label in m.asked["methods"] if label != RANDOM.label
    ) + "."  # fmt: skip


def write(records: Sequence[Record]) -> str:
    """The page in Markdown."""
    m = Measured(records)
    bullets = [
        f"- `{label}`: "
        + (f"against chance {shown(of(label, m.by_chance))}; " if label != RANDOM.label else "")
        + f"against its own mask with the places shuffled {shown(of(label, m.by_places))}."
        for label in m.asked["methods"]
    ]
    lines = [
        [f"`{label}`", density_text(m.groups[label, level][0]["density"]), f"{m.mean((label, level), 'loss'):.3f}",
         str(m.by_chance.get((label, level), "")), str(m.by_places[label, level]),
         f"{100 * m.mean((label, level), 'useful'):.0f} %"]
        for label, level in m.keys
    ]  # fmt: skip
    looked = [
        [f"`{label}`", how["scope"], str(how["iterations"]), str(how["examples"]) if how["mode"] else "",
         how["mode"] or "", "" if how["temperature"] is None else f"{how['temperature']:g}"]
        for label, how in m.asked["methods"].items()
    ]  # fmt: skip
    teacher, given = m.asked["teacher"], m.asked["student"]
    settings = {
        "teacher": f"{teacher['relevant']} of {teacher['inputs']} inputs through {teacher['hidden']} hidden units",
        "student": f"{given['hidden']} hidden units, initialised as {given['initialised']!r}",
        "loss": m.asked["loss"],
        "recipe": ", ".join(f"{name} = {value}" for name, value in m.asked["recipe"].items()),
        "seeds": str(m.asked["seeds"]),
        "torch": m.asked["torch"],
    }
    chance = 100 * teacher["relevant"] / teacher["inputs"]
    parts = [
        "# Scores at initialisation on the planted teacher",
        "Which scores find better tickets than chance does, and do they by *which* weights they keep in each layer, or "
        f"only by how many? Shown is what {100 * (1 - ALPHA):g} % intervals for all {m.compared} comparisons together "
        "(Bonferroni) show:",
        "\n".join(bullets),
        "## Every density",
        f"Test loss (the variance of the targets is 1, so the lower the better), mean over {m.asked['seeds']} seeds; "
        "differences are paired by seed. Inputs: the share of the first layer's weights that read an input the "
        f"teacher reads, by chance {chance:g} %.",
        table(["score", "density", "test loss", "minus random", "minus its mask shuffled", "inputs"], lines),
        "## How the scores were calculated",
        "The mode is the network's while the score looks at examples; this student is the same in both. GraSP's "
        "temperature is what the outputs are divided by before the loss: its authors' value is for logits, and this "
        "loss has none.",
        table(["score", "scope", "iterations", "examples", "mode", "temperature"], looked),
        table(["setting", ""], settings.items()),
        "SynFlow leaves no layer of a VGG-11 without weights where plain rankings by the other scores do: "
        "`tests/methods/test_at_init.py` tests that.",
        "## How it was made",
        f"```\n{PAGE.command} measure\n{PAGE.command}\n```",
        f"{2 * sum(map(len, m.groups.values())):,} trainings. Not measured on a GPU.",
    ]
    return "\n\n".join(parts) + "\n"


PAGE = records_page(
    name="scores",
    question="Do scores before training beat chance (planted teacher)?",
    command="python benchmarks/scores_on_the_teacher.py",
    rows=["scores"],
    write=write,
    answer=answer,
)

if __name__ == "__main__":
    main(PAGE, collect)
