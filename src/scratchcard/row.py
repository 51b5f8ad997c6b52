"""A row is one finished training run: its causes, what was measured, its cost. Torch-free, as evidence is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal, overload

from pydantic import BaseModel, ConfigDict, Field

FORMAT = 1
"""Version of the row and study files. A store of a higher version is refused."""


VERSION = 2
"""Of the identity of runs: raised when the meaning of a cause changes, so that rows of the old meaning are not taken
for the new one. 2: controls that replace the weights of a rewound ticket train the whole schedule, crops scale with the
image, SNIP scores in inference mode and GraSP at its temperature, re-init starts from the search's scaling factors."""


LONGER = "dense-for-the-search"
"""Label of the control that trains the dense network for as many operations as search and ticket together: what a
ticket has to beat to be called better."""


class Frozen(BaseModel):
    """A validated, immutable record; unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Curve(Frozen):
    """Measured along one training: lists with one entry per evaluation; a diverged run's stop before it."""

    steps: list[int]
    """Optimizer steps done when measured; the first is where the training started."""
    train_loss: list[float | None]
    """Mean training loss over the steps since the previous entry; None at the first."""
    validation_loss: list[float]
    test_metric: list[float]


class Point(Frozen):
    """Test metric and validation loss at one step of a run."""

    step: int
    validation_loss: float
    test_metric: float
    censored: bool = False
    """For the early-stop point only: it fell in the last 5 % of the run, so the true minimum may lie beyond."""


class Histogram(Frozen):
    """How many values fall between neighbouring edges; what lies beyond the ends is in the first and last bin."""

    edges: list[float]
    """Rising, one more than there are bins."""
    counts: list[int]


class Movement(Frozen):
    """How far weights travel in the dense training, |end - initial| / sigma (Frankle & Carbin 2019, App. F.5)."""

    kept: Histogram
    """The weights that the ticket keeps."""
    cut: Histogram
    """The others of the same layer."""


class Connections(Frozen):
    """Units of a layer by their number of surviving connections (Frankle & Carbin 2019, App. F.6).

    Entry 0 counts the units without any, entry 1 those with 1, entry i those with 2^(i-2) + 1 to 2^(i-1).
    """

    incoming: list[int]
    """Of the layer's outputs (rows, filters): connections that lead into them."""
    outgoing: list[int]
    """Of the layer's inputs (columns, channels): connections of this layer that lead out of them."""


class Anatomy(Frozen):
    """What one prunable weight of a ticket looks like inside."""

    sigma: float
    """Standard deviation of the weight's initial values, all of them: the unit of the two fields below."""
    initial: Histogram | None = None
    """Initial values / sigma of the weights that the ticket keeps (Frankle & Carbin 2019, App. F.1 and F.2)."""
    movement: Movement | None = None
    """None where the dense training was not seen."""
    connections: Connections


class Artefact(Frozen):
    """A file the run left in the store, with the digest it must still have."""

    file: str
    sha256: str


class Emergence(Frozen):
    """How an early-bird ticket was drawn: the distances between the masks drawn along its search (You et al. 2020)."""

    steps: list[int]
    """Optimizer steps at which a mask was drawn, rising."""
    distances: list[list[float]]
    """Row i, column j: raw normalised Hamming distance of the masks drawn at steps i and j."""
    random: float
    """The distance that two random masks of this share have on average, 2 p (1 - p)."""
    epsilon: float
    patience: int
    reading: str
    """"consecutive" or "window": which distances must be small."""
    emerged: int | None
    """The step at which the detector fired; None where it had not by the end of the search."""
    other_reading: int | None
    """The step at which the other reading fired in this search; None where it had not before the search ended."""
    drawn: int
    """The step whose mask and weights the ticket has."""
    drops: list[int]
    """Steps at which the learning rate of the search drops."""
    search_steps: int
    """How many steps the whole search would have had."""


class Search(Frozen):
    """What a method has to tell about how it found a ticket."""

    emergence: Emergence | None = None
    notes: list[str] = []
    """Sentences, e.g. about layers that kept their least number of channels."""
    seconds: float = 0.0
    """Of trainings that left no row of their own, because the search stopped them: as `Row.training_seconds`."""


class Origin(Frozen):
    """Which weights a method's tickets start from."""

    weights: Literal["initial", "rewound", "trained", "given"]
    """"initial": as they were drawn; "rewound": those of a step of the dense training; "trained": those that a training
    ended with; "given": those of the trained model that was brought."""
    step: int = 0
    """The step that they are rewound to."""
    resumes: bool = False
    """Whether tickets go on with the schedule of the search that found them, from the step of their draw."""

    @property
    def trained(self) -> bool:
        """Whether the tickets' weights were trained under a mask, or are the dense training's last ones."""
        return self.weights == "trained"

    @property
    def words(self) -> str:
        """What the weights are, for a sentence: "initial weights", "weights at step 500"."""
        return self.of("weights")

    def of(self, what: str) -> str:
        """What something of these weights is called: "initial values", "values at step 500"."""
        if self.weights == "rewound":
            return f"{what} at step {self.step}"
        return {"initial": f"initial {what}", "trained": f"trained {what}", "given": f"{what} that were brought"}[
            self.weights
        ]


class Timing(Frozen):
    """Latency of one forward pass in evaluation mode."""

    median: float
    """Seconds."""
    quartiles: tuple[float, float]
    batch: int
    threads: int
    device: str


class Row(Frozen):
    """One finished run. `id` is the digest of its causes (RunSpec); everything else here is a result."""

    format: Literal[1] = FORMAT
    version: int = 1
    """Of the identity, see `VERSION`; 1 in rows from before it was recorded."""
    id: str
    task: str
    """Name of the task (its digest is one of the causes)."""
    task_digest: str
    recipe: dict[str, Any]
    method: str
    """Label of the method that found the ticket, e.g. "imp"; "dense" for the dense network itself."""
    method_fields: dict[str, Any]
    seed: int
    level: int
    """Pruning round, 0 for the dense network."""
    arm: str
    """"dense", "ticket", or the label of a control, e.g. "fresh-init"."""
    replicate: int = 0
    """Which of several draws of the same arm of the same ticket."""

    status: Literal["done", "diverged", "failed"]
    message: str = ""
    """What went wrong, the cause alone; empty for a run that is done."""
    found: bool = True
    """False for a ticket that was planned and never there: a training that its search needed was lost, as `status` and
    `message` say."""
    trained_steps: int | None = None
    """Optimizer steps that it was to be trained for; None in rows from before this was recorded."""

    density: float = Field(ge=0, le=1)
    """Kept / all weights (every weight, prunable or not; biases and normalisation left out)."""
    layers: dict[str, tuple[int, int]]
    """Weight name -> (kept, all)."""
    parameters: int
    """Every parameter of the network, biases and normalisation included."""
    nonzero: int
    """Of these, how many are not cut by the mask."""
    macs: float | None = None
    """Multiply-accumulates of one forward pass of one example, masked weights counted as dense."""
    widths: dict[str, tuple[int, int]] = {}
    """Site -> (units kept, all), where whole units were cut."""
    latency: Timing | None = None
    """Of the network as it was trained, on the machine of the run, beside whatever ran there."""
    mask_digest: str
    anatomy: dict[str, Anatomy] = {}
    """Prunable weight -> what it looks like inside; of tickets only."""

    curve: Curve | None = None
    early_stop: Point | None = None
    """Where validation loss was lowest, found afterwards; its test metric was never used to choose it."""
    end: Point | None = None
    train_metric: float | None = None
    """Metric at the end on (at most the first 10,000) unaugmented training examples."""

    train_flops: float
    """Forward + backward floating-point operations of this training, masked weights counted as dense."""
    search_flops: float
    """What finding this ticket cost if nothing were shared: all trainings before it; 0 for the dense run."""
    seconds: float
    """Wall-clock seconds of the run, evaluation included."""
    training_seconds: float | None = None
    """Seconds of its training steps alone, of the processor where it ran on a CPU; None of runs before this was kept,
    and of dense networks that were brought trained."""
    search: Search = Search()
    """How the ticket was found; of tickets only."""

    snapshots: dict[int, str]
    """Step -> digest of the weights and buffers at that step."""
    artefacts: dict[str, Artefact] = {}
    machine: dict[str, str]
    """Recorded, not identity: versions of scratchcard, torch and python, device, threads."""


class MethodPlan(Frozen):
    """What one method of a study will be asked, declared before the runs."""

    fields: dict[str, Any]
    """The method's hyper-parameters."""
    densities: list[float]
    """Density planned at each level; entry 0 is the dense network (1.0)."""
    primary: int
    """The level the verdict is about; all other levels are descriptive."""
    uniform: bool = False
    """Whether its tickets keep one share of every site, so that a network of uniform width is their architecture."""
    origin: Origin | None = None
    """Which weights its tickets start from; None in studies declared before this was recorded."""
    left_out: dict[str, str] = {}
    """Control of the study -> why it cannot be run on this method's tickets."""


class StudySpec(Frozen):
    """What a study declares before it runs: what is compared, at which level, by which margin."""

    format: Literal[1] = FORMAT
    version: int = 1
    """Of the identity of its runs, see `VERSION`."""
    name: str
    task: str
    task_digest: str
    data: str
    """One line about the data: name, split sizes, split seed."""
    data_digest: str | None = None
    """Of the data, which is part of `task_digest`; None in studies declared before this was recorded."""
    metric: str
    higher_is_better: bool
    metric_is_fraction: bool
    """True for accuracies in [0, 1]: printed in per cent and percentage points."""
    resolution: float = 0.0
    """The smallest step between two possible values of the metric, e.g. 1 / 360 for an accuracy on 360 test examples;
    0 for a continuous metric. Numbers that agree are known to agree only up to this."""
    test_examples: int | None = None
    """How many test examples the metric is measured on; None in studies declared before this was recorded."""
    test_targets: int | None = None
    """How many things these ask for: more than they are where every position of a sequence has a target."""
    loss: str
    dense_given: bool = False
    """True when the person brought a trained dense model (Task.start): it was measured, not trained."""
    constant: float | None = None
    """The test metric of the best constant outputs that the training targets give; None where there are none such, and
    in studies declared before this was recorded."""
    one_draw: bool = False
    """True where the model factory gives the same weights under every seed."""
    recipe: dict[str, Any]
    methods: dict[str, MethodPlan]
    planned: int | None = None
    """How many runs were planned; None in studies declared before this was recorded."""
    arms: list[str]
    """Arms planned, "dense" and "ticket" included."""
    replicates: dict[str, int]
    """Arm -> draws per ticket."""
    control_levels: list[int] | None = None
    """The levels at which controls are run besides the primary one; None: at all of them."""
    seeds: list[int]
    measure: Literal["end", "early_stop"] = "end"
    """Which point of a run the comparisons read."""
    margin: float = Field(gt=0)
    margin_kind: Literal["absolute", "relative"]
    """absolute: in the metric's own unit (0.005 = half a percentage point, or 1 % of what there is to be learnt of an
    unbounded one); relative: a fraction of the dense mean."""
    time_margin: float = Field(default=0.1, gt=0)
    """A ticket's training time is commensurate when its early-stop step is at most (1 + this) x the dense one's."""
    alpha: float = Field(default=0.05, gt=0, lt=0.5)
    command: str
    """What to type to run this study again."""


class Path(Frozen):
    """The straight line between two networks that were trained from one step on under two data orders."""

    seed: int
    step: int
    """Where the two trainings part."""
    values: list[float]
    """Validation metric at points evenly spaced from the one network to the other, both ends included."""
    losses: list[float]
    """Validation loss at the same points."""


class Connectivity(Frozen):
    """How far a network must be trained until its end no longer depends on the data order, up to linear connection.

    Source: Frankle et al. 2020, Linear Mode Connectivity and the Lottery Ticket Hypothesis, sections 2 and 3.
    """

    task: str
    data: str
    metric: str
    higher_is_better: bool
    metric_is_fraction: bool
    steps: int
    """Of the whole training."""
    threshold: float = 0.02
    """Below it the mean instability is called stable: in the metric's unit for fractions (the paper's 2 % of error), as
    a share of the two ends' mean for anything else."""
    statistics: Literal["interpolated", "re-estimated"]
    """What normalisation layers run with between the ends."""
    paths: list[Path]
    command: str
    machine: dict[str, str]


class Rows(Sequence[Row]):
    """The rows of one study, with what the study declared before they were run."""

    def __init__(self, rows: Sequence[Row], study: StudySpec, store: str = "", asked_by: Any = None) -> None:
        """`store`: the folder that they were read from; `asked_by`: the `Study` that gave them, where one did."""
        self._rows = list(rows)
        self.study = study
        self.store, self.asked_by = store, asked_by

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> list[Row]: ...
    def __getitem__(self, index: int | slice) -> Row | list[Row]:
        return self._rows[index]

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self._rows)

    def __repr__(self) -> str:
        return f"Rows({len(self)} runs of study {self.study.name!r})"
