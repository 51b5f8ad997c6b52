"""Data by name: the built-in sets have the published sizes, a folder is read, and errors say what to do."""

import builtins
import io
import os
import socket

import pytest
import torch

from scratchcard.training.sources import load_data
from scratchcard.training.teacher import planted_teacher

published = pytest.mark.skipif(
    "SCRATCHCARD_DATA" not in os.environ, reason="needs SCRATCHCARD_DATA, a folder with mnist/ and cifar10/ in it"
)


@pytest.fixture(autouse=True)
def offline(monkeypatch, tmp_path_factory):
    """No test here may look for a network; what `datasets` caches goes to a temporary folder."""

    def refuse(*args, **kwargs):
        raise OSError("no network in tests")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    datasets = pytest.importorskip("datasets", reason="needs the data extra")
    constants = pytest.importorskip("huggingface_hub").constants
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.getbasetemp() / "datasets")


def png(pixels, mode):
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels.numpy(), mode=None).convert(mode).save(file, format="PNG")
    return {"bytes": file.getvalue(), "path": None}


@pytest.fixture
def folder(tmp_path):
    """A writer of small datasets as parquet files in the hub's layout."""

    def write(columns, features, splits=("train", "test")):
        import datasets

        for split in splits:
            table = datasets.Dataset.from_dict(columns, features=datasets.Features(features))
            table.to_parquet(tmp_path / "small" / "data" / f"{split}-00000-of-00001.parquet")
        return str(tmp_path / "small")

    return write


@pytest.fixture
def pictures(folder):
    """Twelve grey PNGs of 4 x 6 pixels with labels, as a folder; and their pixels."""
    import datasets

    pixels = torch.randint(0, 256, (12, 4, 6), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    columns = {"image": [png(p, "L") for p in pixels], "label": [i % 3 for i in range(12)]}
    features = {"image": datasets.Image(), "label": datasets.ClassLabel(num_classes=3)}
    return folder(columns, features), pixels


def test_digits_are_1797_images_in_the_unit_interval_with_a_stratified_test_split():
    data = load_data("digits")
    assert data.describe() == "digits: 1,293 train, 144 validation (split seed 0), 360 test"
    assert data.train.inputs.shape == (1293, 1, 8, 8)
    assert data.train.inputs.min() == 0
    assert data.train.inputs.max() == 1
    per_class = torch.bincount(data.test.targets)
    assert per_class.min() >= 34
    assert per_class.max() <= 38
    assert torch.equal(data.test.inputs, load_data("digits", split_seed=5).test.inputs)


def test_digits_are_bitwise_the_same_every_time():
    assert load_data("digits").digest() == load_data("digits").digest()


@published
def test_mnist_has_the_published_sizes_and_pixels():
    data = load_data("mnist")
    assert data.describe() == "mnist: 55,000 train, 5,000 validation (split seed 0), 10,000 test"
    assert data.test.inputs.shape == (10_000, 1, 28, 28)
    assert torch.bincount(data.test.targets).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    pixels = torch.cat([data.train.inputs, data.validation.inputs])
    assert pixels.mean().item() == pytest.approx(0.1307, abs=1e-4)
    assert pixels.std().item() == pytest.approx(0.3081, abs=1e-4)
    assert (pixels.min(), pixels.max()) == (0, 1)


@published
def test_a_small_cifar10_is_normalised_averaged_by_area_and_tested_on_all_10000():
    small = load_data("cifar10", size=16, n=2000)
    large = load_data("cifar10", n=2000)
    assert small.describe() == "cifar10 at 16 pixels: 1,800 train, 200 validation (split seed 0), 10,000 test"
    assert large.test.inputs.shape == (10_000, 3, 32, 32)
    assert torch.equal(small.train.targets, large.train.targets)
    average = torch.nn.functional.avg_pool2d(large.test.inputs, 2)
    assert torch.allclose(average, small.test.inputs, atol=1e-5)
    assert large.test.inputs.mean(dim=(0, 2, 3)).abs().max() < 0.05
    assert (large.test.inputs.std(dim=(0, 2, 3)) - 1).abs().max() < 0.02
    assert torch.bincount(large.test.targets).tolist() == [1000] * 10


def test_a_folder_of_pictures_is_read_pixel_by_pixel(pictures):
    path, pixels = pictures
    data = load_data(path, validation=3)
    assert data.describe() == "small: 9 train, 3 validation (split seed 0), 12 test"
    assert torch.equal(data.test.inputs, pixels[:, None].float() / 255)
    assert data.test.targets.tolist() == [i % 3 for i in range(12)]
    assert data.test.targets.dtype == torch.int64


def test_the_first_n_training_examples_are_taken_before_validation_is_drawn(pictures):
    path, pixels = pictures
    data = load_data(path, n=6, validation=2)
    seen = torch.cat([data.train.inputs, data.validation.inputs]) * 255
    assert sorted(seen.round().sum(dim=(1, 2, 3)).tolist()) == sorted(pixels[:6].sum(dim=(1, 2)).tolist())
    assert len(data.test) == 12


def test_pictures_of_several_sizes_and_modes_become_one_size_in_colour(folder):
    import datasets

    grey, colour = torch.full((4, 4), 100, dtype=torch.uint8), torch.full((8, 6, 3), 50, dtype=torch.uint8)
    columns = {"photo": [png(grey, "L"), png(colour, "RGB")] * 2, "label": [0, 1] * 2}
    path = folder(columns, {"photo": datasets.Image(), "label": datasets.ClassLabel(num_classes=2)})
    with pytest.raises(ValueError, match=r"'photo' has images of 2 sizes, from \(4, 4\) to \(6, 8\); give size="):
        load_data(path)
    data = load_data(path, size=2, validation=1)
    assert data.test.inputs.shape == (4, 3, 2, 2)
    assert (data.test.inputs[::2] * 255).allclose(torch.tensor(100.0))
    assert (data.test.inputs[1::2] * 255).allclose(torch.tensor(50.0))


def test_a_validation_split_of_the_dataset_is_used_where_there_is_one(folder):
    import datasets

    path = folder(
        {"x": [[0.0, 1.0]] * 5, "y": [1.5] * 5},
        {"x": datasets.Sequence(datasets.Value("float32"), length=2), "y": datasets.Value("float64")},
        splits=("train", "validation", "test"),
    )
    data = load_data(path)
    assert data.describe() == "small: 5 train, 5 validation, 5 test"
    assert data.train.inputs.shape == (5, 2)
    assert data.train.targets.dtype == torch.get_default_dtype()
    assert len(load_data(path, validation=2).train) == 3


def test_columns_of_single_numbers_become_one_tensor_and_columns_of_arrays_a_dict(folder):
    import datasets

    columns = {"a": [1, 2, 3], "b": [0.5, 1.5, 2.5], "c": [[1, 2]] * 3, "words": ["x"] * 3, "label": [0, 1, 0]}
    features = {
        "a": datasets.Value("int32"),
        "b": datasets.Value("float32"),
        "c": datasets.Sequence(datasets.Value("int64"), length=2),
        "words": datasets.Value("string"),
        "label": datasets.Value("int64"),
    }
    path = folder(columns, features)
    together = load_data(path, inputs=["a", "b"], validation=1).test.inputs
    assert together.tolist() == [[1, 0.5], [2, 1.5], [3, 2.5]]
    apart = load_data(path, inputs=["a", "c"], validation=1).test.inputs
    assert {name: tuple(t.shape) for name, t in apart.items()} == {"a": (3,), "c": (3, 2)}
    with pytest.raises(ValueError, match=r"Give inputs=.*a \(Value\), b \(Value\)"):
        load_data(path)
    with pytest.raises(ValueError, match="'words' is not numeric"):
        load_data(path, inputs="words")


def test_errors_about_a_folder_list_what_there_is(pictures):
    path, _ = pictures
    with pytest.raises(ValueError, match=r"no column 'img'; its columns are image \(Image\), label \(ClassLabel\)"):
        load_data(path, inputs="img")
    with pytest.raises(ValueError, match=r"has the splits train, test; asked for .*test='dev'"):
        load_data(path, test="dev")
    with pytest.raises(ValueError, match=r"n=13 must be between 2 and the 12 training examples"):
        load_data(path, n=13)
    with pytest.raises(ValueError, match="did you mean 'inputs'"):
        load_data(path, input="image")


def test_reading_a_folder_prints_nothing(pictures, capfd):
    load_data(pictures[0], validation=3)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["mnist", "cifar10"])
def test_data_that_is_nowhere_to_be_found_is_explained_in_one_sentence(name, monkeypatch, tmp_path):
    monkeypatch.setenv("SCRATCHCARD_DATA", str(tmp_path))
    with pytest.raises(ValueError, match="SCRATCHCARD_DATA") as error:
        load_data(name)
    assert "\n" not in str(error.value)


def test_without_the_data_extra_the_sentence_says_what_to_install(monkeypatch, pictures):
    real = builtins.__import__

    def missing(name, *args, **kwargs):
        if name == "datasets":
            raise ModuleNotFoundError("No module named 'datasets'")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ValueError, match=r"pip install 'datasets\[vision\]'"):
        load_data(pictures[0])


def test_unknown_names_and_options_are_answered_with_the_nearest_match():
    with pytest.raises(ValueError, match="did you mean 'mnist'"):
        load_data("mnsit")
    with pytest.raises(ValueError, match="did you mean 'split_seed'"):
        load_data("digits", splitseed=1)
    with pytest.raises(ValueError, match="did you mean 'relevant'"):
        load_data("teacher", relevent=3)


@pytest.mark.parametrize("seed", range(5))
def test_the_planted_teacher_has_exactly_the_planted_connections_and_labels_without_noise(seed):
    data, teacher, mask = planted_teacher(seed, inputs=20, relevant=7, hidden=7, connections=3)
    for name, kept in mask.items():
        assert torch.equal(teacher.state_dict()[name] != 0, kept)
    assert mask["0.weight"].sum(dim=1).tolist() == [3] * 7
    assert mask["0.weight"].any(dim=0).sum() == 7
    for split in (data.train, data.validation, data.test):
        assert torch.equal(teacher(split.inputs), split.targets)


def test_inputs_the_teacher_does_not_read_say_nothing_and_each_it_reads_says_something():
    data, teacher, mask = planted_teacher(seed=3)
    x, y = data.test.inputs, data.test.targets
    for i, read in enumerate(mask["0.weight"].any(dim=0)):
        x_shuffled = x.clone()
        x_shuffled[:, i] = x[:, i].roll(1)
        changed = (teacher(x_shuffled) - y).square().mean()
        assert changed > 0.01 if read else changed == 0


def test_regression_targets_are_standardised_and_every_class_is_seen():
    targets = planted_teacher(seed=1)[0].train.targets
    assert abs(targets.mean()) < 0.1
    assert abs(targets.std() - 1) < 0.1
    for seed in range(5):
        labels = planted_teacher(seed, outputs=4, task="classification")[0].train.targets
        assert torch.bincount(labels, minlength=4).min() > 100


def test_teachers_depend_on_their_seed_only_and_leave_the_global_random_state_alone():
    before = torch.get_rng_state()
    first = load_data("teacher", seed=2)
    assert torch.equal(before, torch.get_rng_state())
    torch.rand(3)
    assert first.digest() == load_data("teacher", seed=2).digest()
    assert first.digest() != load_data("teacher", seed=3).digest()


@pytest.mark.parametrize(
    "options", [{"relevant": 40}, {"connections": 9}, {"hidden": 4}, {"task": "classification"}, {"task": "clas"}]
)
def test_a_teacher_that_cannot_be_built_is_refused(options):
    with pytest.raises(ValueError, match=r"got .*=|must be"):
        planted_teacher(**options)
