"""What may be spent and what was: training FLOPs and seconds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Budget:
    """An amount of work. Budgets add up."""

    flops: float = 0.0
    """Training floating-point operations, forward and backward, dense."""
    seconds: float = 0.0
    """Seconds of one worker."""

    def __add__(self, other: Budget) -> Budget:
        return Budget(self.flops + other.flops, self.seconds + other.seconds)

    def __str__(self) -> str:
        return f"{in_words(self.flops, 'FLOPs')}, {clock(self.seconds)}"


def in_words(number: float, unit: str) -> str:
    """A number with an SI prefix: "3.2 TFLOPs"."""
    for power, prefix in ((18, "E"), (15, "P"), (12, "T"), (9, "G"), (6, "M"), (3, "k")):
        if number >= 10**power:
            return f"{number / 10**power:.3g} {prefix}{unit}"
    return f"{number:.3g} {unit}"


def clock(seconds: float) -> str:
    """Seconds as a person says them: "48 s", "3 min 10 s", "2 h 5 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
