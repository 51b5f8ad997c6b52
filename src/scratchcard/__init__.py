"""scratchcard: is there a smaller network as good as yours? Tickets, their controls, and a verdict with intervals."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scratchcard.evidence.draw import draw as draw
    from scratchcard.evidence.report import report as report
    from scratchcard.evidence.rows_file import read_rows as read_rows
    from scratchcard.evidence.rows_file import write_rows as write_rows
    from scratchcard.evidence.verdict import judge as judge
    from scratchcard.masks.early_bird import EarlyBirdDetector as EarlyBirdDetector
    from scratchcard.methods import METHODS as METHODS
    from scratchcard.methods.arms import ARMS as ARMS
    from scratchcard.methods.arms import FreshInit as FreshInit
    from scratchcard.methods.arms import InvertedScores as InvertedScores
    from scratchcard.methods.arms import Noise as Noise
    from scratchcard.methods.arms import OwnInit as OwnInit
    from scratchcard.methods.arms import RandomMask as RandomMask
    from scratchcard.methods.arms import ShuffledMask as ShuffledMask
    from scratchcard.methods.arms import Signs as Signs
    from scratchcard.methods.arms import UniformWidth as UniformWidth
    from scratchcard.methods.at_init import AtInit as AtInit
    from scratchcard.methods.budgets import AnotherInit as AnotherInit
    from scratchcard.methods.budgets import FullSchedule as FullSchedule
    from scratchcard.methods.budgets import Guided as Guided
    from scratchcard.methods.budgets import LotteryInit as LotteryInit
    from scratchcard.methods.budgets import ReInit as ReInit
    from scratchcard.methods.budgets import ScratchB as ScratchB
    from scratchcard.methods.budgets import ScratchE as ScratchE
    from scratchcard.methods.budgets import Transferred as Transferred
    from scratchcard.methods.budgets import pattern_of as pattern_of
    from scratchcard.methods.early_bird import EarlyBird as EarlyBird
    from scratchcard.methods.filters import FilterPruning as FilterPruning
    from scratchcard.methods.imp import IMP as IMP
    from scratchcard.methods.slimming import Slimming as Slimming
    from scratchcard.methods.soft_filters import SoftFilterPruning as SoftFilterPruning
    from scratchcard.networks import zoo as zoo
    from scratchcard.networks.compact import compact as compact
    from scratchcard.networks.exported import export_onnx as export_onnx
    from scratchcard.networks.exported import export_program as export_program
    from scratchcard.networks.latency import latency as latency
    from scratchcard.networks.proved import find_sites as find_sites
    from scratchcard.networks.rounding import compact_rounded as compact_rounded
    from scratchcard.networks.rounding import round_up as round_up
    from scratchcard.networks.saved import load as load
    from scratchcard.networks.saved import save as save
    from scratchcard.networks.subnetwork import MaskedWeights as MaskedWeights
    from scratchcard.networks.subnetwork import hold as hold
    from scratchcard.networks.units import SmallUnits as SmallUnits
    from scratchcard.row import Row as Row
    from scratchcard.row import Rows as Rows
    from scratchcard.study.budget import Budget as Budget
    from scratchcard.study.connectivity import Stability as Stability
    from scratchcard.study.handover import export as export
    from scratchcard.study.named import named_study as named_study
    from scratchcard.study.study import Study as Study
    from scratchcard.study.study import read as read
    from scratchcard.training.data import Data as Data
    from scratchcard.training.metrics import Metric as Metric
    from scratchcard.training.recipe import Recipe as Recipe
    from scratchcard.training.sources import load_data as load_data
    from scratchcard.training.task import Task as Task

# looked up when first used, so that reading rows and writing reports never waits for torch
_HOMES = {
    "ARMS": "methods.arms",
    "AnotherInit": "methods.budgets",
    "AtInit": "methods.at_init",
    "Budget": "study.budget",
    "Data": "training.data",
    "EarlyBird": "methods.early_bird",
    "EarlyBirdDetector": "masks.early_bird",
    "FilterPruning": "methods.filters",
    "FreshInit": "methods.arms",
    "FullSchedule": "methods.budgets",
    "Guided": "methods.budgets",
    "IMP": "methods.imp",
    "InvertedScores": "methods.arms",
    "LotteryInit": "methods.budgets",
    "METHODS": "methods",
    "MaskedWeights": "networks.subnetwork",
    "Metric": "training.metrics",
    "Noise": "methods.arms",
    "OwnInit": "methods.arms",
    "RandomMask": "methods.arms",
    "ReInit": "methods.budgets",
    "Recipe": "training.recipe",
    "Row": "row",
    "Rows": "row",
    "ScratchB": "methods.budgets",
    "ScratchE": "methods.budgets",
    "ShuffledMask": "methods.arms",
    "Signs": "methods.arms",
    "Slimming": "methods.slimming",
    "SmallUnits": "networks.units",
    "SoftFilterPruning": "methods.soft_filters",
    "Stability": "study.connectivity",
    "Study": "study.study",
    "Task": "training.task",
    "Transferred": "methods.budgets",
    "UniformWidth": "methods.arms",
    "compact": "networks.compact",
    "compact_rounded": "networks.rounding",
    "draw": "evidence.draw",
    "export": "study.handover",
    "export_onnx": "networks.exported",
    "export_program": "networks.exported",
    "find_sites": "networks.proved",
    "hold": "networks.subnetwork",
    "judge": "evidence.verdict",
    "latency": "networks.latency",
    "load": "networks.saved",
    "load_data": "training.sources",
    "named_study": "study.named",
    "pattern_of": "methods.budgets",
    "read": "study.study",
    "read_rows": "evidence.rows_file",
    "report": "evidence.report",
    "round_up": "networks.rounding",
    "save": "networks.saved",
    "write_rows": "evidence.rows_file",
    "zoo": "networks",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'scratchcard' has no attribute {name!r}; public names: {', '.join(__all__)}")
    home = import_module(f"scratchcard.{_HOMES[name]}")
    return import_module("scratchcard.networks.zoo") if name == "zoo" else getattr(home, name)


def __dir__() -> list[str]:
    return __all__
