"""Streamed images: read by any number of workers, augmented by (seed, step) alone, held-out ones as they are."""

import builtins
import io
import math
import os
import random
import shutil
import socket
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import Dataset

import scratchcard as sc
from scratchcard.study.named import named_study
from scratchcard.training import images
from scratchcard.training.crops import ATTEMPTS, IMAGENET_MEAN, IMAGENET_STD, CentreCrop, RandomCrop, random_box
from scratchcard.training.data import Data, Streamed, batches, sequential
from scratchcard.training.hub_images import class_names
from scratchcard.training.sources import load_data
from scratchcard.training.splits import Unreadable
from tiny_study import plain

pil = pytest.importorskip("PIL.Image", reason="needs the data extra")
datasets = pytest.importorskip("datasets", reason="needs the data extra")
pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")  # of Python's, where threads are running

CLASSES = ("n01", "n02", "n03")
MODES = ("RGB", "L", "CMYK", "RGBA", "P", "1", "LA")
SIZES = ((40, 30), (30, 41), (25, 25), (60, 20), (17, 33))


@pytest.fixture(autouse=True)
def offline(monkeypatch, tmp_path_factory):
    """No test here may look for a network; what `datasets` caches goes to a temporary folder."""

    def refuse(self, address):
        if self.family != socket.AF_UNIX:
            raise OSError("no network in tests")
        return connect(self, address)

    connect = socket.socket.connect
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(pytest.importorskip("huggingface_hub").constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.getbasetemp() / "datasets")


def picture(i):
    """A picture of its own for every number, of the size and mode that the number stands for."""
    width, height = SIZES[i % len(SIZES)]
    pixels = np.random.default_rng(i).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return pil.fromarray(pixels).convert(MODES[i % len(MODES)])


def saved(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)
    return path


def write_folder(root, splits=(("train", 12), ("val", 4))):
    """ImageNet's layout: three classes of so many pictures, PNG where JPEG has no such mode; and what is no image."""
    number = iter(range(1000))
    for split, each in splits:
        for name in CLASSES:
            for k in range(each):
                image = picture(next(number))
                suffix = "JPEG" if image.mode in ("RGB", "L", "CMYK") else "png"
                saved(root / split / name / f"{name}_{k:02}.{suffix}", image)
            (root / split / name / "notes.txt").write_text("no image")
            (root / split / name / f"._{name}_00.JPEG").write_bytes(b"what a Mac leaves behind")
        (root / split / "index.csv").write_text("no class")
    return root


@pytest.fixture
def imagenet(tmp_path, monkeypatch):
    """A small ImageNet where `load_data` looks for it."""
    monkeypatch.setenv("SCRATCHCARD_DATA", str(tmp_path))
    return write_folder(tmp_path / "imagenet")


def load(**options):
    return load_data("imagenet", **({"size": 8, "workers": 0, "validation": 6} | options))


def read(split):
    return next(iter(sequential(split, 1000)))


def files_of(split):
    """The paths of a split's images, as the row says; whichever way it was carved."""
    subset = split.dataset
    images = getattr(subset, "dataset", subset)
    chosen = getattr(subset, "indices", range(len(images)))
    return [images.rows[int(images.index[i])]["image"]["path"] for i in chosen]


def normalised(pixels):
    mean, std = (torch.tensor(each)[:, None, None] for each in (IMAGENET_MEAN, IMAGENET_STD))
    return (torch.tensor(np.array(pixels)).permute(2, 0, 1).float() / 255 - mean) / std


def test_a_folder_of_imagenets_layout_is_read_whatever_the_sizes_and_modes_of_its_images(imagenet):
    data = load()
    assert data.describe() == "imagenet at 8 pixels: 30 train, 6 validation (split seed 0), 12 test"
    for split, n in ((data.train, 30), (data.validation, 6), (data.test, 12)):
        inputs, targets = read(split)
        assert inputs.shape == (n, 3, 8, 8)
        assert inputs.dtype == torch.float32
        assert inputs.isfinite().all()
        assert targets.dtype == torch.int64
    assert len({str(Path(path).suffix) for path in files_of(data.test)}) == 2


def test_classes_are_numbered_in_the_order_of_their_names(imagenet):
    data = load()
    assert class_names(data) == CLASSES
    for split in (data.train, data.validation, data.test):
        assert [CLASSES[label] for label in read(split)[1]] == [Path(path).parent.name for path in files_of(split)]
    with pytest.raises(ValueError, match="digits are not streamed images"):
        class_names(load_data("digits"))


def test_the_test_is_the_official_validation_split_and_chooses_nothing(imagenet):
    for options in ({}, {"split_seed": 3, "validation": 0.5}, {"n": 10, "validation": 2}):
        assert all("/val/" in path for path in files_of(load(**options).test))
        assert all("/train/" in path for split in ("train", "validation") for path in files_of(getattr(load(), split)))
    assert torch.equal(read(load().test)[0], read(load(split_seed=3, n=10).test)[0])


def test_held_out_images_are_not_trained_on_and_are_read_without_augmentation(imagenet):
    data = load(validation=10)
    trained, held = set(files_of(data.train)), set(files_of(data.validation))
    assert not trained & held
    assert len(trained | held) == 36
    with_transform = CentreCrop(8, 9)
    expected = torch.stack([with_transform(pil.open(path).convert("RGB")) for path in files_of(data.validation)])
    assert torch.equal(read(data.validation)[0], expected)
    shown, _ = next(batches(data.validation, 10, seed=1))
    assert sorted(x.sum().item() for x in shown) == sorted(x.sum().item() for x in expected)


def test_training_images_are_augmented_when_trained_on_and_read_as_they_are_when_evaluated(imagenet):
    data = load()
    expected = torch.stack([CentreCrop(8, 9)(pil.open(path).convert("RGB")) for path in files_of(data.train)])
    assert torch.equal(read(data.train)[0], expected)
    shown, labels = next(batches(data.train, 30, seed=0))
    assert sorted(labels.tolist()) == sorted(read(data.train)[1].tolist())
    plain_ones = {tuple(x.flatten().tolist()) for x in expected}
    assert sum(tuple(x.flatten().tolist()) in plain_ones for x in shown) <= 3  # a crop may be the whole of a square


def test_the_augmentation_at_a_step_is_a_function_of_seed_and_step_whatever_the_workers(imagenet):
    def shown(workers, seed=5, start=0):
        return list(islice(batches(load(workers=workers).train, 8, seed, start), 6 - start))

    whole = shown(0)
    for other, k in ((shown(2), 0), (shown(0, start=2), 2), (shown(2, start=3), 3)):
        for (x, y), (x_other, y_other) in zip(whole[k:], other, strict=True):
            assert torch.equal(x, x_other)
            assert torch.equal(y, y_other)
    assert not torch.equal(whole[0][0], shown(0, seed=6)[0][0])
    again = [x for x, _ in islice(batches(load(n=2, validation=1).train, 1, 0), 8)]  # one and the same image
    assert len({tuple(x.flatten().tolist()) for x in again}) == 8, "every step draws anew"


def test_reading_leaves_the_global_random_states_alone(imagenet):
    def states():
        return torch.get_rng_state().tolist(), str(np.random.get_state()), random.getstate()

    before = states()
    data = load()
    list(islice(batches(data.train, 8, seed=0), 5))
    list(islice(batches(load(workers=1).train, 8, seed=0), 2))
    read(data.validation)
    data.digest()
    assert states() == before


sides = st.integers(1, 600)
draws = st.lists(st.floats(0, 1, exclude_max=True), min_size=4 * ATTEMPTS, max_size=4 * ATTEMPTS)


@settings(deadline=None)
@given(sides, sides, draws)
def test_a_random_part_lies_in_the_image_and_has_the_declared_area_and_shape(width, height, chance):
    left, top, right, bottom = random_box(width, height, chance)
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height
    w, h = right - left, bottom - top
    # what whole pixels can be off: half of one on each side
    assert (w + 0.5) / max(h - 0.5, 0.5) >= 3 / 4
    assert (w - 0.5) / (h + 0.5) <= 4 / 3
    if 3 / 4 <= width / height <= 4 / 3:
        assert (w + 0.5) * (h + 0.5) >= 0.08 * width * height


def test_parts_are_of_every_area_shape_and_place():
    chance = torch.Generator().manual_seed(0)
    boxes = torch.tensor(
        [random_box(400, 400, torch.rand(4 * ATTEMPTS, generator=chance).tolist()) for _ in range(4000)]
    )
    w, h = (boxes[:, 2] - boxes[:, 0]).double(), (boxes[:, 3] - boxes[:, 1]).double()
    areas, shapes = w * h / 160_000, (w / h).log() / math.log(4 / 3)
    small = areas[areas < 0.7]  # larger ones do not fit in every shape
    for low in (0.08, 0.28, 0.48):
        assert ((small >= low) & (small < low + 0.2)).double().mean() == pytest.approx(0.2 / 0.62, abs=0.04)
    assert 0.9 < areas.max() <= 1
    assert shapes[areas < 0.5].mean().abs() < 0.05
    assert shapes[areas < 0.5].std() == pytest.approx(1 / math.sqrt(3), abs=0.05)  # even between -1 and 1
    centre = (boxes[:, 0] + boxes[:, 2])[areas < 0.2].double() / 800
    assert centre.mean() == pytest.approx(0.5, abs=0.03)
    assert centre.std() > 0.12


def test_half_of_the_training_images_are_mirrored():
    ramp = pil.fromarray(np.broadcast_to(np.arange(64, dtype=np.uint8)[None, :, None], (64, 64, 3)).copy())
    torch.manual_seed(0)
    mirrored = [float(x[0, 4, 0] > x[0, 4, -1]) for x in (RandomCrop(8)(ramp) for _ in range(1000))]
    assert 0.45 < sum(mirrored) / 1000 < 0.55


def test_an_image_whose_short_side_is_right_is_cut_to_its_centre_pixel_by_pixel():
    pixels = np.random.default_rng(0).integers(0, 256, (256, 300, 3), dtype=np.uint8)
    crop = CentreCrop(224, 256)(pil.fromarray(pixels))
    assert torch.equal(crop, normalised(pixels[16:240, 38:262]))
    upright = CentreCrop(224, 256)(pil.fromarray(pixels.transpose(1, 0, 2)))
    assert torch.equal(upright, crop.transpose(1, 2))


def test_numbers_are_normalised_by_imagenets_mean_and_deviation():
    pixel = CentreCrop(1, 1)(pil.new("RGB", (7, 7), (255, 0, 102)))[:, 0, 0]
    expected = [(1 - 0.485) / 0.229, (0 - 0.456) / 0.224, (0.4 - 0.406) / 0.225]
    assert pixel.tolist() == pytest.approx(expected, abs=1e-5)


@settings(deadline=None, max_examples=30)
@given(st.integers(20, 90), st.integers(20, 90), st.integers(4, 30), st.integers(0, 10))
def test_evaluation_resizes_the_short_side_with_antialiasing_and_cuts_the_centre(width, height, size, more):
    pixels = np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    resize = size + more
    crop = CentreCrop(size, resize)(pil.fromarray(pixels))
    assert crop.shape == (3, size, size)
    scale = resize / min(width, height)
    new = (resize, math.floor(width * scale + 1e-9)) if height <= width else (math.floor(height * scale + 1e-9), resize)
    given = torch.tensor(pixels).permute(2, 0, 1)[None].double()
    whole = F.interpolate(given, new, mode="bilinear", antialias=True)[0]
    top, left = (round((side - size) / 2) for side in new)
    expected = whole[:, top : top + size, left : left + size]
    mean, std = (torch.tensor(each)[:, None, None] for each in (IMAGENET_MEAN, IMAGENET_STD))
    assert ((crop * std + mean) * 255 - expected).abs().max() <= 1.01  # Pillow rounds to bytes, twice


def test_the_default_of_resize_is_256_for_224_pixels_and_in_proportion(imagenet):
    assert load(size=224).test.dataset.transform == CentreCrop(224, 256)
    assert load(size=56).test.dataset.transform == CentreCrop(56, 64)
    assert load(size=8, resize=8).test.dataset.transform == CentreCrop(8, 8)


def test_fewer_classes_keep_their_order_and_are_numbered_anew(imagenet):
    two = load(classes=2, validation=4)
    assert class_names(two) == CLASSES[:2]
    assert (len(two.train), len(two.test)) == (20, 8)
    named = load(classes=["n03", "n01"], validation=4)
    assert class_names(named) == ("n01", "n03")
    assert {Path(p).parent.name for p in files_of(named.train)} == {"n01", "n03"}
    assert [("n01", "n03")[label] for label in read(named.test)[1]] == [
        Path(p).parent.name for p in files_of(named.test)
    ]
    few = load(n=12, validation=4)
    assert (len(few.train), len(few.validation), len(few.test)) == (8, 4, 12)
    assert len({Path(p).parent.name for p in files_of(few.train)}) > 1, "drawn at random, not the first"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"classes": 1}, "classes=1 must be between 2 and the 3 classes"),
        ({"classes": 4}, "classes=4 must be between 2 and the 3 classes"),
        ({"classes": ["n01", "n09"]}, r"\(n01, n02, n03, ...\), got 'n09'"),
        ({"classes": ["n01"]}, "two or more of the 3 classes .* got 'n01'"),
        ({"classes": []}, "got none"),
        ({"n": 1}, "n=1 must be between 2 and the 36 training images"),
        ({"n": 37}, "n=37 must be between 2"),
        ({"size": 0}, "size=0 must be at least 1 pixel"),
        ({"size": 8, "resize": 7}, "resize=7 at least as many"),
        ({"workers": -1}, "workers=-1 must be 0"),
        ({"validation": 36}, "holds out 36 of 36"),
        ({"clases": 2}, "did you mean 'classes'"),
    ],
)
def test_options_that_cannot_be_are_answered_with_what_can(imagenet, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        load(**options)


def test_the_identity_is_of_names_sizes_classes_and_reading_and_nothing_is_decoded_for_it(imagenet, monkeypatch):
    def digest(**options):
        return load(**options).digest()

    first = digest()
    with monkeypatch.context() as patched:
        patched.setattr(pil, "open", None)
        assert digest() == first
    assert digest(workers=1) == first, "who reads is no cause"
    seen = {first}

    def is_new(**options):
        seen.add(digest(**options))
        return len(seen)

    for count, options in enumerate(
        [{"size": 9}, {"resize": 12}, {"split_seed": 1}, {"validation": 7}, {"n": 20}, {"classes": 2}], start=2
    ):
        assert is_new(**options) == count, options
    file = imagenet / "val" / "n02" / "n02_02.JPEG"
    before = file.read_bytes()
    file.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
    assert is_new() == 8, "a bit of a sampled file"
    file.write_bytes(before + b"\0")
    assert is_new() == 9, "a byte more"
    file.rename(file.with_name("n02_99.JPEG"))
    assert is_new() == 10, "another name"
    file.with_name("n02_99.JPEG").rename(file)
    file.write_bytes(before)
    assert digest() == first
    file.rename(imagenet / "val" / "n03" / "n02_02.JPEG")
    assert is_new() == 11, "another class"


def test_a_file_whose_bytes_are_not_looked_at_is_known_by_its_size_and_class(imagenet, tmp_path, monkeypatch):
    monkeypatch.setattr(images, "SAMPLED", 1)  # the first
    first = load().digest()
    file = imagenet / "val" / "n02" / "n02_02.JPEG"
    file.write_bytes(file.read_bytes() + b"\0")
    assert load().digest() != first
    digests = set()
    for k, labels in enumerate(([0, 1, 2, 2], [0, 1, 2, 1])):
        path = parquet(tmp_path / f"{k}" / "same", train=(range(4), labels), test=(range(4), labels))
        digests.add(load_data(str(path), stream=True, size=8, workers=0).digest())
    assert len(digests) == 2


def test_the_identity_is_the_same_in_another_place_and_at_another_time(imagenet, tmp_path, monkeypatch):
    first = load().digest()
    shutil.copytree(imagenet, tmp_path / "elsewhere" / "imagenet")
    for file in (tmp_path / "elsewhere").rglob("*.JPEG"):
        os.utime(file, (0, 0))
    monkeypatch.setenv("SCRATCHCARD_DATA", str(tmp_path / "elsewhere"))
    assert load().digest() == first


def test_linked_class_folders_and_the_other_name_of_the_validation_folder_are_the_same_data(
    imagenet, tmp_path, monkeypatch
):
    linked = tmp_path / "linked" / "imagenet"
    for split, name in (("train", "train"), ("val", "validation")):
        (linked / name).mkdir(parents=True)
        for one in CLASSES:
            (linked / name / one).symlink_to(imagenet / split / one)
    first = load().digest()
    monkeypatch.setenv("SCRATCHCARD_DATA", str(tmp_path / "linked"))
    assert load().digest() == first


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("damage", ["cut off", "no image", "gone", "16 bits"])
def test_a_broken_image_is_one_sentence_that_names_the_file(imagenet, workers, damage):
    file = imagenet / "train" / "n02" / "n02_03.JPEG"
    data = load(workers=workers)  # opened before: nothing is decoded then
    if damage == "gone":
        file.unlink()
    elif damage == "16 bits":
        content = io.BytesIO()
        pil.fromarray(np.full((9, 9), 40_000, dtype=np.uint16)).save(content, format="PNG")
        file.write_bytes(content.getvalue())
    else:
        file.write_bytes(file.read_bytes()[:300] if damage == "cut off" else b"no image")
    with pytest.raises(Unreadable, match=r"n02_03\.JPEG .* cannot be read; repair or remove it") as error:
        list(islice(batches(data.train, 6, seed=0), 10))
    assert "\n" not in str(error.value)
    assert "Traceback" not in str(error.value)
    assert len(str(error.value)) < 300


def small_network():
    return nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(36, 3))


def small_study(folder, **options):
    task = sc.Task("pictures", small_network, load(**options))
    recipe = sc.Recipe(optimizer="sgd", lr=0.05, momentum=0.9, batch_size=10, steps=6, eval_every=3, eval_batch_size=5)
    return sc.Study(task, recipe, methods=[sc.IMP(rounds=2)], arms=[], seeds=1, store=folder)


def test_a_study_of_streamed_images_is_the_same_whoever_reads_and_runs(imagenet, tmp_path):
    alone = small_study(tmp_path / "alone").run(workers=1, progress=False)
    assert [row.status for row in alone] == ["done"] * len(alone)
    assert {row.level for row in alone} == {0, 1, 2}
    assert all(row.train_metric is not None for row in alone)
    helped = small_study(tmp_path / "helped", workers=2).run(workers=2, progress=False)
    assert plain(helped) == plain(alone)


def test_the_built_in_study_is_a_resnet_50_with_the_papers_recipe_for_the_classes_there_are(imagenet):
    study = named_study("imagenet", {"size": "32", "workers": "0", "validation": "4"})
    recipe, data = study.recipe, study.task.data
    assert (recipe.optimizer, recipe.lr, recipe.momentum, recipe.weight_decay) == ("sgd", 0.1, 0.9, 1e-4)
    assert (recipe.batch_size, recipe.steps, recipe.milestones) == (256, 90, (30, 60))  # an epoch is one batch here
    assert data.describe() == "imagenet at 32 pixels: 32 train, 4 validation (split seed 0), 12 test"
    assert sum(p.numel() for p in study.task.fresh(0).parameters()) == 25_557_032 - 997 * 2049
    study.check()


def test_an_image_that_breaks_during_a_study_is_named_in_the_row(imagenet, tmp_path):
    study = small_study(tmp_path / "runs", workers=1)
    study.check()
    (imagenet / "val" / "n02" / "n02_02.JPEG").write_bytes(b"no image")
    rows = study.run(workers=1, progress=False)
    assert {row.status for row in rows} == {"failed"}
    assert [row.arm for row in rows if row.found] == ["dense"], "no ticket was found without it"
    assert "n02_02.JPEG" in rows[0].message
    assert "Traceback" not in rows[0].message


# ------------------------------------------------------------------ folders and the hub


def parquet(folder, classes=CLASSES, **splits):
    """Pictures and labels by split, as parquet files in the hub's layout."""
    names = datasets.ClassLabel(names=list(classes))
    features = datasets.Features({"image": datasets.Image(), "label": names})
    for split, (numbers, labels) in splits.items():
        encoded = []
        for i in numbers:
            content = io.BytesIO()
            picture(i).convert("RGB").save(content, format="PNG")
            encoded.append({"bytes": content.getvalue(), "path": f"{i}.png"})
        table = datasets.Dataset.from_dict({"image": encoded, "label": labels}, features=features)
        table.to_parquet(folder / "data" / f"{split}-00000-of-00001.parquet")
    return folder


def test_the_hubs_parquet_files_are_read_without_their_unlabelled_test(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("SCRATCHCARD_DATA", str(tmp_path))
    labels = [0, 1, 2] * 4
    folder = parquet(
        tmp_path / "imagenet",
        train=(range(12), labels),
        validation=(range(12, 18), labels[:6]),
        test=(range(18, 20), [-1, -1]),
    )
    capfd.readouterr()
    data = load(size=6, validation=3)
    assert data.describe() == "imagenet at 6 pixels: 9 train, 3 validation (split seed 0), 6 test"
    assert class_names(data) == CLASSES
    assert torch.equal(read(data.test)[0][2], CentreCrop(6, 7)(picture(14).convert("RGB")))
    with pytest.raises(ValueError, match=r"2 of 2 images of imagenet, test have no class; .*test='validation'"):
        load_data(str(folder), stream=True, size=6, workers=0)
    assert capfd.readouterr() == ("", "")


def test_a_dataset_of_images_of_several_sizes_is_streamed_when_asked_and_the_refusal_says_how(tmp_path):
    labels = [0, 1, 2, 0, 1, 2]
    path = str(parquet(tmp_path / "zoo", train=(range(6), labels), test=(range(6, 12), labels)))
    with pytest.raises(ValueError, match=r"of 5 sizes, .*give size=.* or stream=True"):
        load_data(path)
    data = load_data(path, stream=True, size=5, workers=0, validation=2)
    assert data.describe() == "zoo: 4 train, 2 validation (split seed 0), 6 test"
    assert isinstance(data.train, Streamed)
    assert torch.equal(read(data.test)[0][3], CentreCrop(5, 6)(picture(9).convert("RGB")))
    with pytest.raises(ValueError, match=r"has the splits train, test; asked for .*test='dev'"):
        load_data(path, stream=True, test="dev")
    with pytest.raises(ValueError, match="did you mean 'stream'"):
        load_data(path, streem=True)
    with pytest.raises(ValueError, match=r"column 'label' of .* has no images"):
        load_data(path, stream=True, inputs="label", targets="label")


def test_a_validation_split_of_the_folder_is_used_where_the_test_is_another(tmp_path):
    write_folder(tmp_path / "shots", (("train", 3), ("valid", 2), ("test", 1)))
    data = load_data(str(tmp_path / "shots"), stream=True, size=5, workers=0)
    assert data.describe() == "shots: 9 train, 6 validation, 3 test"
    assert all("/valid/" in path for path in files_of(data.validation))


def test_a_folder_that_is_not_sorted_by_class_is_refused_with_the_layout(imagenet):
    shutil.rmtree(imagenet / "val")
    saved(imagenet / "val" / "ILSVRC2012_val_00000001.JPEG", picture(0))
    with pytest.raises(ValueError, match=r"imagenet/val has no images in class folders; .*val/<class>/\*\.jpg"):
        load()


def test_a_class_that_is_tested_but_not_trained_is_refused(imagenet):
    shutil.rmtree(imagenet / "train" / "n02")
    with pytest.raises(ValueError, match="of 1 classes of which imagenet at 8 pixels, train has none, the first 'n02'"):
        load()
    assert class_names(load(classes=["n01", "n03"])) == ("n01", "n03")


def test_classes_may_be_whole_numbers_and_none_of_them_is_dropped_in_silence(tmp_path):
    def numbered(folder, test):
        folder = parquet(folder, "abcd", train=(range(4), [0, 1, 2, 1]), test=(range(4, 8), test))
        for file in folder.rglob("*.parquet"):
            table = datasets.Dataset.from_parquet(str(file), cache_dir=str(tmp_path / "cache"))
            table.cast_column("label", datasets.Value("int32")).to_parquet(file)
        return load_data(str(folder), stream=True, size=5, workers=0, validation=1)

    data = numbered(tmp_path / "a", [0, 2, 1, 0])
    assert class_names(data) == ("0", "1", "2")
    assert read(data.test)[1].tolist() == [0, 2, 1, 0]
    with pytest.raises(ValueError, match="of 1 classes of which b, train has none, the first '3'"):
        numbered(tmp_path / "b", [0, 2, 3, 0])


def test_imagenet_that_is_nowhere_is_one_sentence_about_the_folder_and_the_terms(monkeypatch, tmp_path):
    monkeypatch.setenv("SCRATCHCARD_DATA", str(tmp_path))
    with pytest.raises(ValueError, match="SCRATCHCARD_DATA") as error:
        load_data("imagenet")
    told = str(error.value)
    assert "\n" not in told
    for needed in ("train/<class>", "https://huggingface.co/datasets/ILSVRC/imagenet-1k", "hf auth login"):
        assert needed in told


def test_a_gated_dataset_says_where_its_terms_are(monkeypatch):
    def gated(path, subset):
        raise datasets.exceptions.DatasetNotFoundError(f"Dataset '{path}' is a gated dataset on the Hub.")

    monkeypatch.setattr(datasets, "load_dataset", gated)
    with pytest.raises(ValueError, match=r"https://huggingface.co/datasets/some/one and log in"):
        load_data("some/one", stream=True)


def test_without_the_data_extra_a_folder_says_what_to_install(monkeypatch, imagenet):
    real = builtins.__import__

    def missing(name, *args, **kwargs):
        if name == "datasets":
            raise ModuleNotFoundError("No module named 'datasets'")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ValueError, match=r"pip install 'datasets\[vision\]'"):
        load()


# ------------------------------------------------------------------ anyone's dataset with a plain reading


class Numbers(Dataset):
    """0, 1, 2, ...; with `noise`, something random is added to each."""

    def __init__(self, n, noise):
        self.n, self.noise = n, noise

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        return torch.tensor([float(i) + (torch.rand(()).item() if self.noise else 0)]), i


def test_what_is_held_out_of_a_dataset_with_random_transforms_is_read_plainly_where_it_can_be():
    noisy, quiet = Numbers(20, True), Numbers(20, False)
    data = Data.from_dataset("numbers", noisy, quiet, validation=5, plain=quiet)
    for split, n in ((data.train, 15), (data.validation, 5)):
        x, y = read(split)
        assert len(x) == n
        assert torch.equal(x.flatten(), y.float())
    x, y = next(batches(data.train, 15, seed=0))
    assert (x.flatten() != y).all()
    x, y = next(batches(data.validation, 5, seed=0))
    assert torch.equal(x.flatten(), y.float())
    assert Streamed(noisy, plain=quiet).digest() != Streamed(noisy).digest()


def test_a_plain_reading_of_other_examples_or_of_data_in_memory_is_refused():
    with pytest.raises(ValueError, match="it has 19, the dataset 20"):
        Streamed(Numbers(20, True), plain=Numbers(19, False))
    with pytest.raises(ValueError, match=r"plain=\.\.\. is for streamed training data"):
        Data.from_dataset("n", Numbers(20, True), Numbers(5, False), in_memory=True, plain=Numbers(20, False))
