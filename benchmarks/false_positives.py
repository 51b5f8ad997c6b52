"""How often a verdict's claims are false, in simulated studies whose truth is known.

python benchmarks/false_positives.py [studies]
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np

from scratchcard.evidence.statistics import Floats, holm, paired

ALPHA, CONTROLS = 0.05, 3
Adjust = Callable[[Floats, Floats], tuple[Floats, Floats]]

NOISE: dict[str, Callable[[np.random.Generator, tuple[int, ...]], Floats]] = {
    "Gaussian": lambda random, shape: random.standard_normal(shape),
    "heavy tails (t, 3 df)": lambda random, shape: random.standard_t(3, shape) / np.sqrt(3),
    "skewed (exponential)": lambda random, shape: random.exponential(1, shape) - 1,
}
"""Noise of one run around its arm's true value: mean 0, standard deviation 1."""

TRUTHS = {
    "no difference": (0.0, 0.0, 0.0, 0.0),
    "ticket one margin better": (1.0, 1.0, 1.0, 1.0),
    "ticket one margin worse": (-1.0, -1.0, -1.0, -1.0),
    "equal to dense, one margin above the controls": (0.0, 1.0, 1.0, 1.0),
}
"""True differences, in margins: ticket minus dense, then minus each of three controls."""


def differences(random: np.random.Generator, noise: str, truth: str, margin: float, studies: int, seeds: int) -> Floats:
    """Per-seed differences [studies, comparisons, seeds]; all comparisons share the ticket's runs.

    The ticket's noise is of the kind named, the other arms' is Gaussian and half as wide: equal noise on both
    sides would cancel all skewness.
    """
    ticket = NOISE[noise](random, (studies, 1, seeds))
    others = 0.5 * random.standard_normal((studies, CONTROLS + 1, seeds))
    return ticket - others + margin * np.array(TRUTHS[truth])[:, None]


def false_claims(numbers: Floats, truth: str, margin: float, adjust: Adjust = holm) -> dict[str, float]:
    """Share of studies with at least one false claim of each kind, and of any kind."""
    tested = paired(numbers, margin, ALPHA)
    difference, equivalence = adjust(tested.p_difference, tested.p_equivalence)
    true = np.array(TRUTHS[truth])
    shown, positive = difference <= ALPHA, tested.mean > 0
    wrong = {
        "better": shown & positive & (true <= 0),
        "worse": shown & ~positive & (true >= 0),
        "equivalent": (equivalence <= ALPHA) & (abs(true) >= 1),
    }
    wrong["any"] = np.any(list(wrong.values()), axis=0)
    return {claim: float(where.any(-1).mean()) for claim, where in wrong.items()}


def main(studies: int) -> None:
    print(f"{studies:,} studies a line, {CONTROLS + 1} comparisons each, alpha = {ALPHA:.0%}; worst of margins")
    print("of 1, 3 and 10 standard deviations of a run. Per cent of studies with a false claim.\n")
    print("| noise | truth | seeds | better | worse | equivalent | any |")
    print("|---|---|---|---|---|---|---|")
    for noise in NOISE:
        for truth in TRUTHS:
            for seeds in (3, 5, 10):
                random = np.random.default_rng([seeds, list(NOISE).index(noise), list(TRUTHS).index(truth)])
                rates = [
                    false_claims(differences(random, noise, truth, margin, studies, seeds), truth, margin)
                    for margin in (1.0, 3.0, 10.0)
                ]
                worst = max(rates, key=lambda rate: rate["any"])
                print(f"| {noise} | {truth} | {seeds} |", *(f"{100 * rate:.1f} |" for rate in worst.values()))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000)
