"""What was saved is what is loaded, bit for bit, or it is said why not."""

import errno
import json
import os
import struct
import subprocess
import sys
import tempfile
import textwrap
import zipfile

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from scratchcard.networks.compact import Compacted, compact
from scratchcard.networks.forward import read_state, state_digest
from scratchcard.networks.saved import Manifest, load, save, without_denormals
from scratchcard.networks.sites import read_sites
from scratchcard.networks.zoo import resnet_20


class Tied(nn.Module):
    """The same matrix embeds and scores; one layer is called under two names."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(11, 6)
        self.inner = nn.Linear(6, 8)
        self.back = nn.Linear(8, 6)
        self.again = self.back
        self.scores = nn.Linear(6, 11, bias=False)
        self.scores.weight = self.embed.weight

    def forward(self, tokens):
        return self.scores(self.again(torch.relu(self.inner(self.embed(tokens)))))


def grouped():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, groups=8),  # one group per channel
        nn.GroupNorm(4, 8),
        nn.Conv2d(8, 12, 1, groups=4),
        nn.ReLU(),
        nn.Conv2d(12, 5, 1),
    )


def small_resnet():
    return resnet_20(width=0.25)


def images(n=3):
    return torch.randn(n, 3, 12, 12, generator=torch.Generator().manual_seed(1))


def every_other(model, inputs):
    """Compacted to half of its units, after batch statistics that are no defaults."""
    torch.manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-1, 1)
            module.running_var.uniform_(0.5, 2)
            module.num_batches_tracked.fill_(7)
    sites = read_sites(model, inputs)
    assert sites.sites
    mask = {name: torch.arange(len(site)) % 2 == 0 for name, site in sites.sites.items()}
    return compact(model.eval(), mask, inputs, sites)


def tampered(folder, **fields):
    """Other fields in the manifest, with the digest that fits them where they are fields of it."""
    path = folder / "manifest.json"
    content = {**json.loads(path.read_text()), **fields}
    if content.keys() == Manifest.model_fields.keys() and "digest" not in fields:
        content["digest"] = Manifest.model_validate(content).own_digest()
    path.write_text(json.dumps(content))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("make", [small_resnet, grouped])
def test_a_compacted_network_comes_back_bit_for_bit(make, dtype, tmp_path):
    small = every_other(make(), images())
    small.module.to(dtype)
    written = save(small, tmp_path / "small")
    again = load(tmp_path / "small", make)
    assert state_digest(read_state(again.module)) == state_digest(read_state(small.module))
    assert next(again.module.parameters()).dtype == dtype
    assert not again.module.training
    batch = images().to(dtype)
    assert torch.equal(again.module(batch), small.module.eval()(batch))
    assert (again.kept_whole, again.error) == (small.kept_whole, small.error)
    assert {n: {d: k.tolist() for d, k in dims.items()} for n, dims in again.shrink_spec.items()} == {
        n: {d: k.tolist() for d, k in dims.items()} for n, dims in small.shrink_spec.items()
    }
    assert written.bytes == {path.name: path.stat().st_size for path in (tmp_path / "small").iterdir()}
    assert str(again.module) == str(small.module), "layers are told their sizes"


def test_batch_statistics_are_those_of_the_units_that_are_left(tmp_path):
    model = grouped()
    small = every_other(model, images())
    save(small, tmp_path)
    norm = load(tmp_path, grouped).module[1]
    kept = small.shrink_spec["1.running_mean"][0]
    assert 0 < len(kept) < 8
    assert torch.equal(norm.running_mean, model[1].running_mean[kept])
    assert norm.num_batches_tracked == 7
    assert norm.num_features == len(kept)


def test_a_network_that_was_trained_further_and_loaded_can_be_saved_again(tmp_path):
    small = every_other(small_resnet(), images())
    save(small, tmp_path / "a")
    again = load(tmp_path / "a", small_resnet)
    with torch.no_grad():
        for parameter in again.module.parameters():
            parameter.add_(0.25)
    save(again, tmp_path / "b")
    third = load(tmp_path / "b", small_resnet)
    assert state_digest(read_state(third.module)) == state_digest(read_state(again.module))
    assert state_digest(read_state(third.module)) != state_digest(read_state(small.module))


def test_shared_weights_are_stored_once_and_stay_shared(tmp_path):
    tokens = torch.arange(10).view(2, 5)
    small = every_other(Tied(), tokens)
    assert small.module.inner.out_features == 4
    save(small, tmp_path)
    stored = safetensors.torch.load_file(next(tmp_path.glob("weights-*")))
    assert set(stored) == {"embed.weight", "inner.weight", "inner.bias", "back.weight", "back.bias"}
    again = load(tmp_path, Tied).module
    assert again.scores.weight is again.embed.weight
    assert again.again is again.back
    assert torch.equal(again(tokens), small.module(tokens))


def test_a_model_that_shares_other_weights_is_refused(tmp_path):
    save(Tied(), tmp_path)

    def untied():
        model = Tied()
        model.scores.weight = nn.Parameter(model.scores.weight.detach().clone())
        return model

    with pytest.raises(ValueError, match=r"scores\.weight is on its own, saved was the contrary; give"):
        load(tmp_path, untied)


def test_a_module_that_was_not_cut_is_saved_too_and_a_module_can_be_given_for_its_factory(tmp_path):
    model, other = small_resnet(), small_resnet()
    before = state_digest(read_state(other))
    save(model, tmp_path)
    again = load(tmp_path, other)
    assert state_digest(read_state(again.module)) == state_digest(read_state(model))
    assert state_digest(read_state(other)) == before, "the module given is not touched"
    assert again.shrink_spec == {}


def test_loading_draws_none_of_the_users_random_numbers(tmp_path):
    save(small_resnet(), tmp_path)
    before = torch.get_rng_state()
    load(tmp_path, small_resnet)
    assert torch.equal(torch.get_rng_state(), before)


def test_another_process_loads_the_same_bits(tmp_path):
    small = every_other(small_resnet(), images())
    save(small, tmp_path)
    code = f"""
        import torch
        from scratchcard.networks.forward import read_state, state_digest
        from scratchcard.networks.saved import load
        from scratchcard.networks.zoo import resnet_20
        torch.manual_seed(99)

        def refuse(*_, **__):
            raise AssertionError("loading must not export")

        torch.export.export = refuse
        print(state_digest(read_state(load({str(tmp_path)!r}, lambda: resnet_20(width=0.25)).module)))
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == state_digest(read_state(small.module))


def test_no_pickle_is_written(tmp_path):
    save(small_resnet(), tmp_path)
    for path in tmp_path.iterdir():
        assert not zipfile.is_zipfile(path)
        assert not path.read_bytes().startswith(b"\x80"), path
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".json", ".safetensors"]


@given(
    st.sampled_from([("<f", "<I", torch.float32, 4), ("<d", "<Q", torch.float64, 8)]),
    st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=20),
)
def test_exactly_the_denormal_numbers_become_0_and_all_others_keep_every_bit(kind, integers):
    real, whole, dtype, size = kind
    smallest = torch.finfo(dtype).tiny
    raw = [value % 2 ** (8 * size) >> (value % 5) * size for value in integers]  # shifted: some are denormal
    values = torch.frombuffer(bytearray(b"".join(struct.pack(whole, value) for value in raw)), dtype=dtype)
    clean, flushed = without_denormals({"a": values})
    numbers = [struct.unpack(real, struct.pack(whole, value))[0] for value in raw]
    denormal = [number != 0 and abs(number) < smallest for number in numbers]
    assert flushed == sum(denormal)
    told = clean["a"].numpy().tobytes()
    for at, (value, gone) in enumerate(zip(raw, denormal, strict=True)):
        assert told[at * size : (at + 1) * size] == struct.pack(whole, 0 if gone else value)


def test_denormal_numbers_are_counted_and_written_as_0(tmp_path):
    model = nn.Linear(4, 2)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1e-40, -1e-45, 0.0, -0.0], [1.2e-38, 1.0, -1e-30, 1e-38]]))
    written = save(model, tmp_path)
    again = load(tmp_path, lambda: nn.Linear(4, 2)).module
    assert written.flushed == 3
    assert again.weight.tolist() == [[0, 0, 0, 0], [pytest.approx(1.2e-38), 1, pytest.approx(-1e-30), 0]]
    assert torch.signbit(again.weight)[0].tolist() == [False, False, False, True], "-0.0 keeps its bits"
    assert float(model.weight[0, 0].detach()) != 0, "the network given is not touched"
    half, flushed = without_denormals({"a": torch.tensor([6e-8, 1e-5], dtype=torch.float16)})
    assert flushed == 0
    assert half["a"].tolist() == pytest.approx([6e-8, 1e-5], rel=0.02)
    brain, flushed = without_denormals({"a": torch.tensor([1e-39, 1e-5], dtype=torch.bfloat16)})
    assert flushed == 1
    assert brain["a"][0] == 0


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 6), st.integers(1, 9), st.integers(0, 3), st.data())
def test_any_choice_of_units_comes_back(inputs, hidden, seed, data):
    kept = torch.tensor(data.draw(st.lists(st.booleans(), min_size=hidden, max_size=hidden).filter(any)))

    def make():
        return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, 2))

    torch.manual_seed(seed)
    small = compact(make(), {"0": kept}, torch.randn(3, inputs))
    with tempfile.TemporaryDirectory() as folder:
        save(small, folder)
        again = load(folder, make)
    assert again.module[0].out_features == int(kept.sum())
    assert state_digest(read_state(again.module)) == state_digest(read_state(small.module))


@pytest.fixture
def saved(tmp_path):
    folder = tmp_path / "small"
    save(every_other(grouped(), images()), folder)
    return folder


def test_changed_and_truncated_weights_are_told(saved):
    path = next(saved.glob("weights-*"))
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(ValueError, match=r"other bytes than were written .* take it from its source again"):
        load(saved, grouped)
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=rf"{len(content) // 2} of them, {len(content)} were written"):
        load(saved, grouped)
    path.unlink()
    with pytest.raises(ValueError, match="should be there but cannot be read"):
        load(saved, grouped)


def test_a_truncated_or_changed_manifest_is_told(saved):
    path = saved / "manifest.json"
    content = path.read_bytes()
    path.write_bytes(content[:-10])
    with pytest.raises(ValueError, match="not a manifest as save writes it"):
        load(saved, grouped)
    path.write_bytes(content)
    kept = json.loads(content)["kept"]
    name, dim = next((name, dim) for name, dims in kept.items() for dim in dims)
    kept[name][dim] = [index + 1 for index in kept[name][dim]]
    tampered(saved, kept=kept, digest=json.loads(content)["digest"])
    with pytest.raises(ValueError, match="has other content than was written"):
        load(saved, grouped)


@pytest.mark.parametrize(
    "file", ["../other.safetensors", "/etc/passwd", "a/b.safetensors", "..\\x.safetensors", "\0", "weights.safetensors"]
)
def test_a_manifest_that_names_a_file_outside_of_its_folder_is_refused(file, saved):
    weights = json.loads((saved / "manifest.json").read_text())["weights"]
    (saved.parent / "other.safetensors").write_bytes(next(saved.glob("weights-*")).read_bytes())
    tampered(saved, weights={**weights, "file": file})
    with pytest.raises(ValueError, match="only a file of its own folder"):
        load(saved, grouped)


def test_fields_that_are_too_many_missing_or_of_another_type_are_refused(saved):
    content = (saved / "manifest.json").read_text()
    for fields, told in [
        ({"run": "import os"}, "run: Extra inputs are not permitted"),
        ({"kept": {"0.weight": {"0": [-1]}}}, "kept.0.weight.0.0: Input should be greater than or equal to 0"),
        ({"kept": {"0.weight": {"-1": [0]}}}, "greater than or equal to 0"),
        ({"shared": 3}, "shared: Input should be an object"),
    ]:
        (saved / "manifest.json").write_text(content)
        tampered(saved, digest="", **fields)
        with pytest.raises(ValueError, match=told) as raised:
            load(saved, grouped)
        assert "\n" not in str(raised.value)


def test_a_newer_format_is_told_even_when_its_fields_are_not_known(saved):
    tampered(saved, format=3, sparsity="new")
    with pytest.raises(
        ValueError, match="has format 3, this scratchcard reads formats up to 2; install a newer scratchcard"
    ):
        load(saved, grouped)


def test_a_shared_tensor_that_is_not_stored_is_told(saved):
    tampered(saved, shared={"a": "b"})
    with pytest.raises(ValueError, match=r"shares tensors that are not stored, \['b'\]"):
        load(saved, grouped)


def test_a_wrong_model_is_refused_and_everything_that_is_wrong_is_named(saved):
    with pytest.raises(ValueError, match=r"(?s)0\.weight is not in it.*1\.running_mean is not in it"):
        load(saved, small_resnet)
    with pytest.raises(ValueError, match=r"0\.weight has shape \(4, 3, 3, 3\), index 5 of dimension 0 was kept"):
        load(saved, lambda: nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), *grouped()[1:]))

    def other_end():
        return nn.Sequential(*grouped()[:-1], nn.Conv2d(12, 6, 1))

    with pytest.raises(ValueError, match=r"7\.bias has shape \(6,\), saved was \(5,\); 7\.weight has shape \(6, 6,"):
        load(saved, other_end)
    with pytest.raises(ValueError, match=r"9\.bias is missing in the file; 9\.weight is missing in the file"):
        load(saved, lambda: nn.Sequential(*grouped(), nn.ReLU(), nn.Linear(5, 5)))
    with pytest.raises(ValueError, match=r"model must make a torch\.nn\.Module, it made a str"):
        load(saved, lambda: "model")


def test_a_cut_module_saved_without_its_lists_is_told_what_was_missing(tmp_path):
    save(every_other(grouped(), images()).module, tmp_path)
    with pytest.raises(ValueError, match="save what compact gave, not its module alone"):
        load(tmp_path, grouped)


def test_a_folder_that_is_not_ours_is_neither_read_nor_written(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ValueError, match="not a network saved by scratchcard"):
        load(tmp_path, grouped)
    for overwrite in (False, True):
        with pytest.raises(ValueError, match=r"holds other things \(thesis.tex\); give a new or empty folder"):
            save(grouped(), tmp_path, overwrite)
    with pytest.raises(ValueError, match="is a file, a folder is needed"):
        save(grouped(), tmp_path / "thesis.tex")
    with pytest.raises(ValueError, match="not a network saved by scratchcard"):
        load(tmp_path / "nowhere", grouped)
    (tmp_path / "manifest.json").write_text('{"name": "a web page"}')
    with pytest.raises(ValueError, match="not a manifest as save writes it"):
        save(grouped(), tmp_path, overwrite=True)
    assert {path.name for path in tmp_path.iterdir()} == {"thesis.tex", "manifest.json"}


def test_what_was_saved_is_replaced_only_when_asked_for(tmp_path):
    first, second = grouped(), grouped()
    save(first, tmp_path)
    with pytest.raises(ValueError, match="holds a saved network already"):
        save(second, tmp_path)
    save(second, tmp_path, overwrite=True)
    assert len(list(tmp_path.iterdir())) == 2, "the old weights are gone"
    assert state_digest(read_state(load(tmp_path, grouped).module)) == state_digest(read_state(second))


@pytest.mark.parametrize("fails_at", [1, 2])
def test_a_disk_that_fails_leaves_what_was_there_and_no_pieces(fails_at, tmp_path, monkeypatch):
    first = grouped()
    save(first, tmp_path)
    calls, replace = [], os.replace

    def failing(*arguments):
        calls.append(arguments)
        if len(calls) == fails_at:
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(*arguments)

    monkeypatch.setattr(os, "replace", failing)
    with pytest.raises(ValueError, match=r"nothing was saved, .* the disk is full; free some space"):
        save(grouped(), tmp_path, overwrite=True)
    monkeypatch.undo()
    assert state_digest(read_state(load(tmp_path, grouped).module)) == state_digest(read_state(first))
    assert not list(tmp_path.glob(".*"))
    save(grouped(), tmp_path, overwrite=True)
    assert len(list(tmp_path.iterdir())) == 2


def test_what_a_kill_left_in_a_new_folder_does_not_stand_in_the_way(tmp_path):
    (tmp_path / "weights-0123456789abcdef.safetensors").write_bytes(b"half")
    (tmp_path / ".manifest.77.part.json").write_bytes(b"{")
    save(grouped(), tmp_path)
    assert load(tmp_path, grouped).error == 0


def test_a_read_only_folder_is_told(tmp_path):
    folder = tmp_path / "locked"
    folder.mkdir()
    folder.chmod(0o500)
    if os.access(folder, os.W_OK):  # an administrator may write everywhere
        folder = next(path for path in ("/proc", "/sys") if os.path.isdir(path)) + "/small"
    with pytest.raises(ValueError, match=r"nothing was saved, .* cannot be written: .*; (change|choose)"):
        save(grouped(), folder)


def test_tensors_that_cannot_be_stored_are_named():
    with torch.device("meta"):
        model = nn.Linear(2, 2)
    with pytest.raises(ValueError, match=r"weight \(on meta\), bias \(on meta\)"):
        save(model, "never")
    model = nn.Module()
    model.register_buffer("phases", torch.zeros(2, dtype=torch.complex128))
    with pytest.raises(ValueError, match=r"phases \(strided complex128\)"):
        save(model, "never")
    with pytest.raises(ValueError, match=r"save takes a Compacted or a torch\.nn\.Module, got a dict"):
        save({}, "never")


def test_lists_that_were_made_by_hand_are_enough(tmp_path):
    """Rebuilding needs no graph: the manifest is the whole of it."""
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    kept = torch.tensor([1, 3])
    small = nn.Sequential(nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 2))
    spec = {"0.weight": {0: kept}, "0.bias": {0: kept}, "2.weight": {1: kept}}
    save(Compacted(small, spec, {}, {}, 0.0), tmp_path)
    again = load(tmp_path, model).module
    assert (again[0].out_features, again[2].in_features) == (2, 2)
    assert torch.equal(again[2].weight, small[2].weight)
