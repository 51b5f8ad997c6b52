"""A file for other programs gives what the network gives, for any number of examples, or there is no file."""

import functools
import sys
import warnings
import zipfile

import numpy as np
import pytest
import torch
from torch import nn

from scratchcard.networks import exported
from scratchcard.networks.compact import compact
from scratchcard.networks.exported import export_onnx, export_program
from scratchcard.networks.forward import read_state, state_digest
from scratchcard.networks.sites import read_sites
from scratchcard.networks.zoo import densenet_40, resnet_20

onnxruntime = pytest.importorskip("onnxruntime", reason="needs scratchcard[export]")
onnx = pytest.importorskip("onnx", reason="needs scratchcard[export]")
pytest.importorskip("onnxscript", reason="needs scratchcard[export]")


def drawn(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3))


def small_resnet():
    return resnet_20(width=0.25)


def narrow_densenet():
    return densenet_40(width=0.25)


def encoder():
    return nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 4, 32, batch_first=True), 2, enable_nested_tensor=False)


KINDS = {
    "resnet": (small_resnet, (3, 12, 12)),
    "densenet": (narrow_densenet, (3, 8, 8)),
    "encoder": (encoder, (5, 16)),
}


def by_onnx(path, inputs):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    given = inputs if isinstance(inputs, dict) else {session.get_inputs()[0].name: inputs}
    return session.run(None, {name: value.numpy() for name, value in given.items()})


def by_torch(path, inputs):
    net = torch.export.load(path).module()
    outputs = net(**inputs) if isinstance(inputs, dict) else net(inputs)
    return (
        [outputs.detach().numpy()]
        if isinstance(outputs, torch.Tensor)
        else [o.detach().numpy() for o in outputs.values()]
    )


WAYS = {"onnx": (export_onnx, by_onnx, "net.onnx"), "pt2": (export_program, by_torch, "net.pt2")}


@pytest.fixture(params=WAYS)
def way(request):
    return WAYS[request.param]


@functools.cache
def compacted(kind):
    """Half of the units, and a batch of two."""
    make, shape = KINDS[kind]
    torch.manual_seed(0)
    model, batch = make().eval(), drawn(2, *shape)
    sites = read_sites(model, batch)
    small = compact(model, {n: torch.arange(len(s)) % 2 == 0 for n, s in sites.sites.items()}, batch, sites).module
    assert sum(p.numel() for p in small.parameters()) < 0.9 * sum(p.numel() for p in model.parameters())
    return small, batch


@pytest.mark.parametrize("kind", KINDS)
def test_a_compacted_network_gives_the_same_for_other_numbers_of_examples(kind, way, tmp_path):
    export, run, file = way
    small, batch = compacted(kind)
    before = state_digest(read_state(small))
    done = export(small, batch, tmp_path / file)
    assert done.batches == (2, 5, 1)
    assert done.error <= 1e-5
    assert done.bytes == (tmp_path / file).stat().st_size
    assert [path.name for path in tmp_path.iterdir()] == [file]
    assert state_digest(read_state(small)) == before
    for examples in (1, 7):
        given = drawn(examples, *batch.shape[1:]) * 2
        with torch.no_grad():
            wanted = small(given).numpy()
        (found,) = run(tmp_path / file, given)
        assert found.shape == wanted.shape
        assert np.abs(found - wanted).max() <= 1e-5 * np.abs(wanted).max()


class Named(nn.Module):
    """Keyword inputs, of whole numbers and of real ones, and two outputs whose names are not in order."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(9, 4)
        self.scale = nn.Linear(2, 4)
        self.drop = nn.Dropout(0.5)

    def forward(self, tokens, features=None):
        mixed = self.embed(tokens).mean(1) + self.scale(features)
        return {"second": self.drop(mixed), "first": mixed.relu().sum(1)}


def test_keyword_inputs_whole_numbers_and_several_outputs(way, tmp_path):
    export, run, file = way
    model = Named()
    assert model.training
    given = {"features": drawn(1, 2), "tokens": torch.tensor([[1, 8, 3]])}  # not in the order of the signature
    assert export(model, given, tmp_path / file).batches == (1, 3, 1)
    assert model.training, "the module is not touched"
    found = run(tmp_path / file, {"features": drawn(4, 2), "tokens": torch.arange(8).view(4, 2).repeat(1, 2)[:, :3]})
    wanted = model.eval()(torch.arange(8).view(4, 2).repeat(1, 2)[:, :3], drawn(4, 2))
    for one, other in zip(found, wanted.values(), strict=True):
        assert np.allclose(one, other.detach().numpy(), atol=1e-6)


def test_float64_networks_are_given_what_they_need(way, tmp_path):
    export, run, file = way
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).double()
    assert export(model, drawn(3, 3), tmp_path / file).error <= 1e-14
    assert run(tmp_path / file, drawn(3, 3).double())[0].dtype == np.float64


def test_denormal_weights_are_written_as_0(tmp_path):
    model = nn.Linear(3, 2, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1e-40, 1.0, 0.0], [2.0, -1e-44, 1e-38]]))
    assert export_onnx(model, drawn(2, 3), tmp_path / "a.onnx").flushed == 3
    (weight,) = onnx.load(tmp_path / "a.onnx").graph.initializer
    assert sorted(onnx.numpy_helper.to_array(weight).ravel().tolist()) == [0, 0, 0, 0, 1, 2]
    assert export_program(model, drawn(2, 3), tmp_path / "a.pt2").flushed == 3
    assert float((torch.export.load(tmp_path / "a.pt2").state_dict["weight"] != 0).sum()) == 2


def test_neither_a_pickle_nor_the_example_batch_is_in_the_file(tmp_path):
    batch = torch.full((2, 3), 0.123456)
    export_program(nn.Linear(3, 2), batch, tmp_path / "a.pt2")
    with zipfile.ZipFile(tmp_path / "a.pt2") as archive:
        for name in archive.namelist():
            content = archive.read(name)
            assert not content.startswith((b"\x80", b"PK")), name
            assert batch.numpy().tobytes() not in content, name


def test_a_batch_size_written_into_the_code_is_told(way, tmp_path):
    export, _, file = way

    class Fixed(nn.Module):
        def forward(self, x):
            return x.reshape(5, 3) * 2  # the longer of the batches that are tried

    with pytest.raises(ValueError, match=r"this Fixed cannot .* (batch size|number of examples) .*in(to)? its code"):
        export(Fixed(), drawn(2, 3), tmp_path / file)
    assert not list(tmp_path.iterdir())


def test_control_flow_that_depends_on_data_is_told(way, tmp_path):
    export, _, file = way

    class Branching(nn.Module):
        def forward(self, x):
            return x * 2 if x.sum() > 0 else x

    with pytest.raises(ValueError, match=r"this Branching cannot be exported .* depends on data"):
        export(Branching(), drawn(2, 3), tmp_path / file)
    assert not list(tmp_path.iterdir())


def test_a_file_that_computes_something_else_is_not_kept(way, tmp_path):
    export, _, file = way

    class Counting(nn.Module):
        """Gives other numbers each time that it is called from Python."""

        calls = 0

        def forward(self, x):
            if not torch.compiler.is_compiling():
                self.calls += 1
                return x + self.calls
            return x * 1.5

    (tmp_path / file).write_bytes(b"an older export")
    with pytest.raises(ValueError, match=r"computes something else: on 2 examples it differs by"):
        export(Counting(), drawn(2, 3), tmp_path / file)
    assert (tmp_path / file).read_bytes() == b"an older export"
    assert len(list(tmp_path.iterdir())) == 1


def test_outputs_that_are_no_numbers_prove_nothing(way, tmp_path):
    export, _, file = way
    model = nn.Linear(3, 2)
    with torch.no_grad():
        model.weight[0, 0] = float("nan")
    with pytest.raises(ValueError, match="differs by nan"):
        export(model, drawn(2, 3), tmp_path / file)
    assert not list(tmp_path.iterdir())


def test_inputs_without_common_examples_and_other_endings_are_refused(way, tmp_path):
    export, _, file = way
    model = nn.Bilinear(3, 3, 2)
    with pytest.raises(ValueError, match=r"must be the same examples, got \[2, 4\] of them"):
        export(model, (drawn(2, 3), drawn(4, 3)), tmp_path / file)
    with pytest.raises(ValueError, match=r"ends in \.(onnx|pt2), got .*net\.bin"):
        export(model, (drawn(2, 3), drawn(2, 3)), tmp_path / "net.bin")
    assert export(model, (drawn(2, 3), drawn(2, 3)), tmp_path / "new" / file).batches == (2, 5, 1)


def test_a_place_that_cannot_be_written_is_told(way, tmp_path):
    export, _, file = way
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"cannot be written .*choose another folder"):
        export(nn.Linear(3, 2), drawn(2, 3), tmp_path / "file" / file)


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_a_missing_package_is_told_with_what_to_install(package, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ValueError, match=rf"needs the package '{package}': pip install onnx onnxscript onnxruntime"):
        export_onnx(nn.Linear(3, 2), drawn(2, 3), tmp_path / "a.onnx")


def test_a_network_too_large_for_one_file_is_told_before_anything_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(exported, "LARGEST", 20)
    with pytest.raises(ValueError, match="one ONNX file holds 2 GB of weights, this Linear has"):
        export_onnx(nn.Linear(3, 2), drawn(2, 3), tmp_path / "a.onnx")


def test_a_users_own_warnings_and_random_numbers_are_left_alone(way, tmp_path):
    export, _, file = way

    class Loud(nn.Linear):
        def forward(self, x):
            warnings.warn("mine", FutureWarning, stacklevel=1)
            return super().forward(x)

    before = torch.get_rng_state()
    with pytest.warns(FutureWarning, match="mine"):
        export(Loud(3, 2), drawn(2, 3), tmp_path / file)
    torch.set_rng_state(before)
    model = nn.Linear(3, 2)
    state = torch.get_rng_state()
    export(model, drawn(2, 3), tmp_path / file)
    assert torch.equal(torch.get_rng_state(), state)
