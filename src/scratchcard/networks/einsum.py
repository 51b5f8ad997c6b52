"""The letters of `torch.einsum` as numbers: which dimensions meet, and which are added up."""

from __future__ import annotations


def einsum_letters(equation: str, ranks: list[int]) -> list[list[int]]:
    """The dimensions of every factor of `einsum`, and of the result, as numbers that stand for its letters.

    Args:
        equation: as `torch.einsum` takes it; an ellipsis stands for the dimensions that have no letter.
        ranks: of the factors.

    Raises:
        ValueError: the letters of a factor are not as many as its dimensions.
    """
    given, arrow, wanted = equation.replace(" ", "").partition("->")
    terms = given.split(",")
    dots = max((rank - len(term.replace("...", "")) for term, rank in zip(terms, ranks, strict=True)), default=0)

    def numbers(term: str, rank: int) -> list[int]:
        before, ellipsis, after = term.partition("...")
        missing = rank - len(before) - len(after) if ellipsis else 0
        found = [*map(ord, before), *range(-missing, 0), *map(ord, after)]
        if len(found) != rank:
            raise ValueError(f"einsum writes {len(found)} letters for {rank} dimensions")
        return found

    factors = [numbers(term, rank) for term, rank in zip(terms, ranks, strict=True)]
    if not arrow:
        letters = [letter for factor in factors for letter in factor]
        once = sorted(letter for letter in set(letters) if letter >= 0 and letters.count(letter) == 1)
        return [*factors, [*range(-dots, 0), *once]]
    return [*factors, numbers(wanted, len(wanted.replace("...", "")) + (dots if "..." in wanted else 0))]
