"""Proofs of sites in a store: found once, read by every later start and worker."""

import pytest
import torch
from torch import nn

import scratchcard as sc
from scratchcard.networks import proved
from scratchcard.study.disk import StoreError
from scratchcard.study.proofs import KeptProofs
from scratchcard.study.store import Store


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store").folder


def running(folder):
    proofs = KeptProofs(folder)
    proofs.write()
    return proofs


def test_a_proof_is_read_as_it_was_written(store):
    running(store).keep("ab", {"conv": "why not"})
    running(store).keep("cd", {})
    assert KeptProofs(store).refused("ab") == {"conv": "why not"}
    assert KeptProofs(store).refused("cd") == {}
    assert KeptProofs(store).refused("ef") is None


def test_nothing_is_written_before_a_study_runs(tmp_path):
    folder = tmp_path / "store"
    proofs = KeptProofs(folder)
    proofs.keep("ab", {})
    assert proofs.refused("ab") == {}
    assert not folder.exists()
    Store(folder)
    assert KeptProofs(folder).refused("ab") is None
    proofs.write()
    assert KeptProofs(folder).refused("ab") == {}


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"refused": {}}', b'{"digest": "0", "refused": {}}'])
def test_a_damaged_proof_is_none_and_is_written_anew(store, content):
    running(store).keep("ab", {})
    (store / "proofs" / "ab.json").write_bytes(content)
    proofs = running(store)
    assert proofs.refused("ab") is None
    proofs.keep("ab", {"conv": "why not"})
    assert KeptProofs(store).refused("ab") == {"conv": "why not"}


def test_what_a_newer_scratchcard_wrote_is_left_alone(store):
    from scratchcard.study.sealed import seal

    (store / "proofs").mkdir()
    (store / "proofs" / "ab.json").write_bytes(seal('{"refused": {}, "also": 1}'))
    with pytest.raises(StoreError, match="newer scratchcard"):
        KeptProofs(store).refused("ab")


def test_a_study_proves_its_network_once_for_all_starts(tmp_path, monkeypatch):
    def model():
        return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))

    x = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
    pair = x, (x[:, 0] > 0).long()
    data = sc.Data.from_tensors("halves", pair, pair)
    recipe = sc.Recipe(steps=2, batch_size=8, eval_every=1)
    made, real = [], proved.compacted
    monkeypatch.setattr(proved, "compacted", lambda *given: made.append(1) or real(*given))

    def run():
        task = sc.Task("once", model, data)
        method = sc.FilterPruning(rounds=1, rate=0.5)
        study = sc.Study(task, recipe, methods=[method], arms=[], seeds=1, store=tmp_path / "store")
        assert not (tmp_path / "store").exists() or study.task.sites
        return study.run(workers=1, progress=False)

    assert [row.status for row in run()] == ["done"] * 2
    assert len(made) == 1
    assert len(run()) == 2
    assert len(made) == 1
    assert len(list((tmp_path / "store" / "proofs").iterdir())) == 1
