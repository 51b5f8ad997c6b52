"""Methods find tickets, one paper per file; arms say what is done to a ticket before it is trained."""

from scratchcard.methods.imp import IMP

METHODS = {"imp": IMP}
"""Every method by the name the command line knows."""
