"""Methods find tickets, one paper per file; arms say what is done to a ticket before it is trained."""

from scratchcard.methods.at_init import AtInit
from scratchcard.methods.early_bird import EarlyBird
from scratchcard.methods.filters import FilterPruning
from scratchcard.methods.imp import IMP
from scratchcard.methods.slimming import Slimming
from scratchcard.methods.soft_filters import SoftFilterPruning
from scratchcard.methods.ticket import Method

METHODS: dict[str, Method] = {
    method.label: method
    for method in (
        IMP(),
        IMP(one_shot=True),
        IMP(scope="global"),
        IMP(only=("conv",)),
        IMP(only=("linear", "output")),
        IMP(between="lr-rewind"),
        IMP(between="continue"),
        IMP(between="fine-tune"),
        *(IMP(criterion=name) for name in ("small_final", "large_init", "large_init_large_final")),
        *(IMP(criterion=name) for name in ("magnitude_increase", "movement", "random")),
        AtInit("magnitude"),
        AtInit("snip"),
        AtInit("grasp"),
        AtInit("synflow"),
        *(AtInit("random", scope=scope) for scope in ("layer", "uniform", "erk")),
        IMP(units="channels"),
        Slimming(),
        EarlyBird(),
        EarlyBird(reading="window"),
        EarlyBird(draw="end"),
        FilterPruning("l1"),
        FilterPruning("l2"),
        FilterPruning("random"),
        FilterPruning("l1", smallest=True),
        SoftFilterPruning(),
    )
}
"""Methods by the name the command line knows; a study gives them its rounds and rates."""
