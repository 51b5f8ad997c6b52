"""A file for other programs gives what the network gives, for any number of examples, or there is no file."""

import functools
import subprocess
import sys
import warnings
import zipfile
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._pytree import tree_leaves, tree_map

from scratchcard.networks import exported
from scratchcard.networks.compact import compact
from scratchcard.networks.exported import IN_ONNX, TOLERANCE, NoFile, export_onnx, export_program
from scratchcard.networks.forward import call, read_state, state_digest
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


class Summed(nn.Module):
    """What is given in any way is added up."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def put(self, *parts):
        return self.layer(sum(parts))


class Args(Summed):
    def forward(self, first, *args):
        return self.put(first, *args)


class Kwargs(Summed):
    def forward(self, **kwargs):
        return self.put(kwargs["a"], 2 * kwargs["b"])


class Both(Summed):
    def forward(self, x, *more, scale=None, **others):
        return self.put(x, *more) * (1 if scale is None else scale) + others["b"].sum(1, keepdim=True)


class Optional(Summed):
    def forward(self, a=None, x=None, b=None):
        return self.put(x, *(one * n for n, one in enumerate((a, b), 2) if one is not None))


class Nested(Summed):
    def forward(self, mapped, pair):
        return {"sum": self.put(mapped["x"], pair[0]), "rest": [pair[1] * 2, None]}


class Shared(Summed):
    """Its second input is the same for every example."""

    def forward(self, x, table):
        return self.put(x @ table)


CALLED = {
    "one more": (Args, (drawn(2, 3), drawn(2, 3) + 1, drawn(2, 3) + 2)),
    "none more": (Args, (drawn(2, 3),)),
    "by keyword": (Kwargs, {"b": drawn(2, 3), "a": drawn(2, 3) + 1}),
    "both": (Both, {"x": drawn(2, 3), "b": drawn(2, 3), "scale": drawn(2, 1)}),
    "not the first": (Optional, {"b": drawn(2, 3), "x": drawn(2, 3)}),
    "nested": (Nested, ({"x": drawn(2, 3)}, [drawn(2, 3), drawn(2, 3) + 1])),
    "nested by keyword": (Nested, {"pair": (drawn(2, 3), drawn(2, 3) + 1), "mapped": {"x": drawn(2, 3)}}),
    "shared by all examples": (Shared, (drawn(2, 3), drawn(3, 3))),
    "nothing given": (Optional, (None, drawn(2, 3))),
}


def is_as_called(kind, export, run, path):
    make, batch = CALLED[kind]
    model = make().eval()
    assert export(model, batch, path).batches == (2, 5, 1)
    other = tree_map(
        lambda one: one.flip(0)[:, :].repeat(3, 1) * 2 if one is not None and len(one) == 2 else one, batch
    )
    wanted = tree_leaves(call(model, other))
    found = run(path, other)
    assert len(found) == len([one for one in wanted if one is not None])
    for one, other_one in zip(found, wanted, strict=False):
        assert torch.allclose(torch.as_tensor(one), other_one, atol=1e-6)


def heavy_but(*kinds):
    return [kind if kind in kinds else pytest.param(kind, marks=pytest.mark.heavy) for kind in CALLED]


@pytest.mark.parametrize("kind", heavy_but("one more", "both", "nested", "shared by all examples", "nothing given"))
def test_a_program_is_called_as_the_network_is(kind, tmp_path):
    def run(path, inputs):
        return [one for one in tree_leaves(call(torch.export.load(path).module(), inputs)) if one is not None]

    is_as_called(kind, export_program, run, tmp_path / "net.pt2")


@pytest.mark.parametrize("kind", heavy_but("both"))
def test_an_onnx_file_has_the_inputs_that_the_network_was_given(kind, tmp_path):
    def run(path, inputs):
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        tensors = [one for one in tree_leaves(inputs) if one is not None]
        named = dict(zip([node.name for node in session.get_inputs()], tensors, strict=True))
        if kind == "both":
            assert list(named) == ["x", "b", "scale"]
        return session.run(None, {name: value.numpy() for name, value in named.items()})

    is_as_called(kind, export_onnx, run, tmp_path / "net.onnx")


def test_what_all_examples_share_may_not_be_as_long_as_the_batch(tmp_path):
    with pytest.raises(
        ValueError, match=r"cannot run a batch of 7 examples .* may not be as long as the batch by chance"
    ):
        export_program(Shared(), (drawn(3, 3), drawn(3, 3)), tmp_path / "net.pt2")


class Odd(dict):
    """A library's own container."""


def test_outputs_are_plain_and_what_is_no_tensor_is_named(tmp_path):
    @dataclass
    class Packed:
        x: torch.Tensor
        steps: object

    class Model(nn.Module):
        def forward(self, x):
            return Odd(x=x * 2, cache=object(), packed=(Packed(x + 1, 3), None))

    done = export_program(Model(), drawn(2, 3), tmp_path / "net.pt2")
    assert done.left_out == ("cache (object)", "packed.0.steps (int)")
    found = torch.export.load(tmp_path / "net.pt2").module()(drawn(4, 3))
    assert type(found) is dict
    assert found.keys() == {"x", "packed"}
    assert found["packed"][0].keys() == {"x"}
    assert found["packed"][1] is None


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_a_program_of_any_type_is_written(kind, tmp_path):
    model = nn.Sequential(nn.Conv1d(3, 4, 2), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2)).to(kind)
    assert export_program(model, drawn(3, 3, 5), tmp_path / "net.pt2").error <= TOLERANCE[kind]
    assert torch.export.load(tmp_path / "net.pt2").module()(drawn(2, 3, 5).to(kind)).dtype == kind


@pytest.mark.parametrize(
    ("kind", "runs"),
    [
        (torch.float64, False),
        pytest.param(torch.bfloat16, False, marks=pytest.mark.heavy),
        pytest.param(torch.float16, True, marks=pytest.mark.heavy),
    ],
)
def test_where_onnx_runtime_lacks_a_type_float32_is_tried_and_named(kind, runs, tmp_path):
    model = nn.Conv1d(3, 2, 2).to(kind)
    if runs:
        assert export_onnx(model, drawn(3, 3, 5), tmp_path / "net.onnx").error <= TOLERANCE[kind]
        return
    with pytest.raises(
        NoFile, match=r"cannot be (run on 3 examples|exported) .*\. float32 would do: export_onnx\("
    ) as told:
        export_onnx(model, drawn(3, 3, 5), tmp_path / "net.onnx")
    assert told.value.in_float32
    assert next(model.parameters()).dtype == kind
    assert not list(tmp_path.iterdir())


@pytest.mark.heavy
def test_a_constant_that_onnx_keeps_in_float32_does_not_refuse_a_float64_network(tmp_path):
    net = nn.LayerNorm(8).double()
    inputs = drawn(4, 8).double() * 1e-3  # the constant under the root counts
    assert 1e-10 < export_onnx(net, inputs, tmp_path / "net.onnx").error <= IN_ONNX[torch.float64]
    assert export_program(net, inputs, tmp_path / "net.pt2").error <= TOLERANCE[torch.float64]


@pytest.mark.heavy
def test_where_float32_would_not_help_it_is_not_advised(tmp_path):
    class Branching(nn.Linear):
        def forward(self, x):
            return super().forward(x) if x.sum() > 0 else x[:, :2]

    with pytest.raises(NoFile, match="float32 would not help") as told:
        export_onnx(Branching(3, 2).double(), drawn(3, 3), tmp_path / "net.onnx")
    assert not told.value.in_float32


def test_infinite_numbers_at_the_same_places_are_equal_and_elsewhere_are_not(tmp_path):
    class Masked(nn.Linear):
        def forward(self, x):
            shown = super().forward(x).masked_fill(x[:, :2] > 0, -torch.inf)
            return shown if not self.training or torch.compiler.is_compiling() else shown * 2

    assert export_program(Masked(3, 2), drawn(3, 3), tmp_path / "net.pt2").error == 0
    one = torch.tensor([1.0, -torch.inf, 2.0, torch.nan])
    assert exported._difference([one], [one]) == 0
    assert exported._difference([one], [one.abs()]) == float("inf")
    assert exported._difference([one], [one.nan_to_num(nan=0.0)]) == float("inf")
    assert exported._difference([one], [one.double()]) == float("inf")
    assert exported._difference([torch.tensor([1, 900])], [torch.tensor([1, 901])]) == float("inf")
    assert exported._difference([torch.tensor([1j, 2])], [torch.tensor([1.5j, 2])]) == 0.25


@pytest.mark.parametrize("way", ["pt2", pytest.param("onnx", marks=pytest.mark.heavy)])
def test_a_file_of_one_number_of_examples_takes_that_one(way, tmp_path):
    export, run, file = WAYS[way]

    class Pairs(nn.Module):
        def forward(self, x):
            return x.reshape(2, -1) * 2

    with pytest.raises(NoFile, match=r"cannot run a batch of [51] examples"):
        export(Pairs(), drawn(2, 3), tmp_path / file)
    assert export(Pairs(), drawn(2, 3), tmp_path / file, any_number=False).batches == (2,)
    assert np.allclose(run(tmp_path / file, drawn(2, 3))[0], drawn(2, 3) * 2)


@pytest.mark.heavy
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("nested", [False, True])
def test_an_encoder_with_a_mask_is_written_and_torch_s_other_path_is_named(nested, tmp_path, capfd):
    model = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 8, batch_first=True), 1, enable_nested_tensor=nested)
    if not nested:
        inputs = (drawn(3, 5, 8), nn.Transformer.generate_square_subsequent_mask(5))
        assert export_program(model, inputs, tmp_path / "net.pt2").error <= 1e-6
    hidden = torch.arange(5) >= torch.tensor([[5], [3], [4]])
    inputs = {"src": drawn(3, 5, 8), "src_key_padding_mask": hidden}
    if nested:
        with pytest.raises(NoFile, match=r"zeros at padded positions; nn.TransformerEncoder\(.*=False\) does without"):
            export_program(model, inputs, tmp_path / "net.pt2")
    else:
        assert export_program(model, inputs, tmp_path / "net.pt2").error <= 1e-6
    assert torch.backends.mha.get_fastpath_enabled()
    assert capfd.readouterr().err == ""


BERT = {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
GPT2 = {"vocab_size": 50, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 16, "bos_token_id": 0}
WITHOUT_TRANSFORMERS = """
import sys
sys.modules["transformers"] = sys.modules["scratchcard"] = None
import torch
found = torch.export.load(sys.argv[1]).module()(**torch.load(sys.argv[2]))
torch.save(found, sys.argv[3])
"""


@pytest.mark.heavy
@pytest.mark.parametrize("name", ["bert", "gpt2"])
def test_language_models_are_read_where_their_library_is_not_installed(name, tmp_path):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    ids, mask = torch.arange(28).view(4, 7), torch.ones(4, 7, dtype=torch.int64)
    mask[1, 5:] = 0
    inputs = {"input_ids": ids, "attention_mask": mask}
    if name == "bert":
        model = transformers.BertModel(transformers.BertConfig(**BERT)).eval()
    else:
        model = transformers.GPT2LMHeadModel(transformers.GPT2Config(**GPT2, eos_token_id=1)).eval()
        inputs = {"labels": ids, **inputs}  # not in the order of the signature
    done = export_program(model, inputs, tmp_path / "net.pt2")
    assert done.left_out == (() if name == "bert" else ("past_key_values (DynamicCache)",))
    assert export_onnx(model, inputs, tmp_path / "net.onnx").error <= 1e-5
    files = [tmp_path / "net.pt2", tmp_path / "inputs.pt", tmp_path / "found.pt"]
    more = {key: value.repeat(2, 1) for key, value in inputs.items()}
    torch.save(more, files[1])
    subprocess.run([sys.executable, "-c", WITHOUT_TRANSFORMERS, *map(str, files)], check=True)
    found, wanted = torch.load(files[2]), model(**more)
    assert found.keys() == {key for key in wanted if key != "past_key_values"}
    for key, value in found.items():
        assert torch.allclose(value, wanted[key], atol=1e-5)


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

    with pytest.raises(ValueError, match=r"this Fixed itself cannot run a batch of 2 .*written into its code must go"):
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
        model.weight.fill_(float("nan"))
    with pytest.raises(ValueError, match="nothing is shown by output 1 of this Linear"):
        export(model, drawn(2, 3), tmp_path / file)
    assert not list(tmp_path.iterdir())


def test_inputs_without_common_examples_and_other_endings_are_refused(way, tmp_path):
    export, _, file = way
    model = nn.Bilinear(3, 3, 2)
    with pytest.raises(ValueError, match=r"must be the same examples, got \[2, 4\] of them"):
        export(model, (drawn(2, 3), drawn(4, 3)), tmp_path / file)
    for empty in (drawn(0, 3), torch.tensor(1.0), ()):
        with pytest.raises(
            ValueError, match=r"first input's first dimension must be the examples, got .*give one batch"
        ):
            export(model, empty, tmp_path / file)
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


def test_a_recurrent_network_is_exported_without_a_word(tmp_path):
    class Tagger(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.head = nn.LSTM(3, 5, batch_first=True), nn.Linear(5, 2)

        def forward(self, x):
            return self.head(self.rnn(x)[0].mean(1))

    with torch.random.fork_rng(devices=[]), warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        export_program(Tagger(), torch.randn(3, 4, 3), tmp_path / "tagger.pt2")
    assert not [str(one.message) for one in said]
