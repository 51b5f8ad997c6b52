"""What has to be known before any sentence of a verdict is read."""

from __future__ import annotations

from statistics import fmean

from scratchcard.evidence.comparison import measured
from scratchcard.evidence.fate import fate_of
from scratchcard.evidence.statistics import p_above
from scratchcard.evidence.summary import metric_text
from scratchcard.row import VERSION, Rows


def first_of_all(rows: Rows) -> list[str]:
    """Sentences about what makes all others worth little: an untaught dense network, one draw for all, older rows."""
    return [*_nothing_learnt(rows), *_dense_lost(rows), *_one_draw(rows), *_older(rows)]


def _nothing_learnt(rows: Rows) -> list[str]:
    """Where the dense network is not shown to be better than constant outputs."""
    study, value = rows.study, measured(rows.study)
    found = [value(row) for row in rows if row.arm == "dense" and row.status == "done"]
    numbers = [number for number in found if number is not None]
    if study.constant is None or not numbers:
        return []
    sign = 1 if study.higher_is_better else -1
    gains = [sign * (number - study.constant) for number in numbers]
    if fmean(gains) > 0 and (len(gains) < 2 or p_above(gains, 0.0, study.resolution) <= study.alpha):
        return []
    runs = "the model that was brought" if study.dense_given else f"mean over {len(numbers)} of its runs"
    return [
        f"The dense network is not shown to be better than a constant predictor: test {study.metric} "
        f"{metric_text(fmean(numbers), study)} ({runs}) against {metric_text(study.constant, study)}. A ticket that "
        "matches it has learnt no more."
    ]


def _dense_lost(rows: Rows) -> list[str]:
    dense = fate_of(rows, "", 0, "dense")
    if not dense.diverged:
        return []
    return [
        f"The dense network diverged in {len(dense.diverged)} of {len(rows.study.seeds)} seeds: nothing is compared "
        "with it there; a lower learning rate may help."
    ]


def _one_draw(rows: Rows) -> list[str]:
    if not rows.study.one_draw:
        return []
    return [
        "The model factory gives the same weights under every seed: seeds differ in the order of the data alone, and "
        "no control has fresh weights."
    ]


def _older(rows: Rows) -> list[str]:
    older = sum(row.version < VERSION for row in rows)
    if not older:
        return []
    return [
        f"{older} of {len(rows)} runs are of an earlier version of scratchcard, in which controls of rewound and "
        "fine-tuned tickets kept the ticket's steps and rates (named -same-steps here), crops had 4 pixels at any "
        "size, and SNIP and re-init were other ones. They are read as what they were."
    ]
