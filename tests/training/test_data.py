"""Data: splits, their digests, and batches and augmentations that are functions of (seed, step)."""

from itertools import islice

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import Dataset, TensorDataset

from scratchcard.training.augment import augment, padding
from scratchcard.training.data import Data, InMemory, Streamed, batches, order, sequential
from scratchcard.training.splits import map_tensors


class Squares(Dataset):
    """x and x squared; with `noise`, a random number in place of x."""

    def __init__(self, n, noise=False):
        self.n, self.noise = n, noise

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        if not 0 <= i < self.n:
            raise IndexError(i)
        return torch.tensor([torch.rand(()).item() + np.random.rand() if self.noise else float(i)]), i * i


def numbered(n):
    return InMemory(torch.arange(n).float()[:, None], torch.arange(n))


def make(n_train=20, n_test=5, **options):
    x, y = torch.randn(n_train + n_test, 3), torch.arange(n_train + n_test)
    return Data.from_tensors("mine", (x[:n_train], y[:n_train]), (x[n_train:], y[n_train:]), **options)


sizes = st.integers(1, 40)
seeds = st.integers(0, 2**31)


@settings(deadline=None)
@given(sizes, sizes, seeds, st.integers(0, 5))
def test_an_epoch_shows_every_example_at_most_once_and_drops_only_the_ragged_end(n, batch_size, seed, epoch):
    index = order(n, batch_size, seed, epoch)
    assert index.shape == ((n // batch_size, batch_size) if n >= batch_size else (1, n))
    assert len(index.unique()) == index.numel()
    assert index.min() >= 0
    assert index.max() < n


@settings(deadline=None)
@given(sizes, sizes, seeds, st.integers(0, 30))
def test_a_run_started_at_step_k_sees_the_batches_an_uninterrupted_run_sees_from_k_on(n, batch_size, seed, k):
    whole = list(islice(batches(numbered(n), batch_size, seed), k + 4))
    resumed = list(islice(batches(numbered(n), batch_size, seed, start_step=k), 4))
    assert all(torch.equal(a[1], b[1]) for a, b in zip(whole[k:], resumed, strict=True))


def test_the_papers_160_epochs_of_45000_in_batches_of_64_are_112480_iterations():
    assert 160 * len(order(45_000, 64, seed=0, epoch=0)) == 112_480


def test_two_epochs_and_two_seeds_have_different_orders_but_batch_size_does_not_change_the_order():
    first = order(100, 10, seed=0, epoch=0).flatten()
    assert not torch.equal(first, order(100, 10, seed=0, epoch=1).flatten())
    assert not torch.equal(first, order(100, 10, seed=1, epoch=0).flatten())
    assert torch.equal(first, order(100, 20, seed=0, epoch=0).flatten())


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")  # of Python's, where threads are running
def test_streamed_and_in_memory_data_give_the_same_batches_whatever_the_workers(workers):
    streamed = batches(Streamed(Squares(23), workers), 5, seed=3, start_step=7)
    numbers = torch.arange(23)
    memory = batches(InMemory(numbers.float()[:, None], numbers**2), 5, seed=3, start_step=7)
    for (x, y), (x_memory, y_memory) in islice(zip(streamed, memory, strict=False), 9):
        assert torch.equal(x, x_memory)
        assert torch.equal(y, y_memory)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_random_transforms_of_a_streamed_dataset_are_the_same_for_a_resumed_run_and_for_any_workers():
    def noisy(workers, start):
        return [x for x, _ in islice(batches(Streamed(Squares(23, noise=True), workers), 5, 3, start), 4)]

    torch.manual_seed(1)
    whole = noisy(0, 0)
    assert torch.equal(whole[2], noisy(0, 2)[0])
    assert torch.equal(whole[2], noisy(2, 2)[0])
    assert not torch.equal(whole[0], whole[1])


def test_reading_batches_leaves_the_global_random_state_alone():
    before, before_numpy = torch.get_rng_state(), str(np.random.get_state())
    list(islice(batches(Streamed(Squares(23, noise=True)), 5, seed=3), 6))
    list(islice(batches(numbered(23), 5, seed=3), 6))
    augment(torch.zeros(2, 1, 8, 8), ("pad-crop", "flip"), 0, 0, 0.125)
    assert torch.equal(before, torch.get_rng_state())
    assert str(np.random.get_state()) == before_numpy


@settings(deadline=None)
@given(sizes, sizes)
def test_evaluation_sees_every_example_once_in_order_with_the_ragged_end(n, batch_size):
    for split in (InMemory(torch.arange(n)[:, None].float(), torch.arange(n) ** 2), Streamed(Squares(n))):
        parts = list(sequential(split, batch_size))
        assert len(parts) == -(-n // batch_size)
        assert torch.equal(torch.cat([x for x, _ in parts]).flatten(), torch.arange(n).float())
        assert torch.equal(torch.cat([y for _, y in parts]), torch.arange(n) ** 2)


def test_inputs_may_be_a_dict_or_a_tuple_in_memory_and_streamed():
    n = 6
    for inputs in ({"a": torch.arange(n), "b": torch.randn(n, 2)}, (torch.arange(n), torch.randn(n, 2))):
        split = InMemory(inputs, torch.arange(n))
        examples = [(map_tensors(lambda t, i=i: t[i], inputs), i) for i in range(n)]
        for (x, y), (xs, ys) in zip(sequential(split, 4), sequential(Streamed(examples), 4), strict=True):
            assert type(x) is type(xs) is type(inputs)
            keys = inputs if isinstance(inputs, dict) else range(2)
            assert all(torch.equal(x[k], xs[k]) for k in keys)
            assert torch.equal(y, ys)


@settings(deadline=None)
@given(st.integers(2, 60), seeds, st.data())
def test_validation_is_carved_from_the_training_examples_and_test_is_untouched(n, seed, draw):
    count = draw.draw(st.integers(1, n - 1))
    x = torch.arange(n).float()
    data = Data.from_tensors("d", (x, x), (-x, -x), validation=count, split_seed=seed)
    together = torch.cat([data.train.inputs, data.validation.inputs])
    assert len(data.validation) == count
    assert torch.equal(together.sort().values, x)
    assert torch.equal(data.test.inputs, -x)


def test_the_validation_split_depends_on_its_own_seed_only():
    x = torch.randn(50, 2)

    def held(seed):
        return Data.from_tensors("d", (x, x), (x, x), validation=0.2, split_seed=seed).validation.inputs

    torch.manual_seed(0)
    first = held(3)
    torch.manual_seed(1)
    assert torch.equal(first, held(3))
    assert not torch.equal(first, held(4))
    assert len(first) == 10


def test_tensors_and_the_same_tensors_as_a_dataset_are_carved_alike():
    x, y = torch.randn(30, 2), torch.arange(30)
    tensors = Data.from_tensors("d", (x, y), (x, y), validation=7)
    dataset = Data.from_dataset("d", TensorDataset(x, y), TensorDataset(x, y), validation=7)
    streamed = Data.from_dataset("d", TensorDataset(x, y), TensorDataset(x, y), validation=7, in_memory=False)
    assert isinstance(dataset.train, InMemory)
    assert isinstance(streamed.train, Streamed)
    assert tensors.digest() == dataset.digest()
    assert torch.equal(tensors.train.targets, next(sequential(streamed.train, 100))[1])
    assert torch.equal(tensors.validation.targets, next(sequential(streamed.validation, 100))[1])


def test_a_dataset_can_be_read_into_memory():
    data = Data.from_dataset("squares", Squares(20), Squares(5), in_memory=True)
    assert data.test.targets.tolist() == [0, 1, 4, 9, 16]


def test_the_digest_changes_with_a_single_bit_a_dtype_a_shape_a_name_and_the_split():
    x, y = torch.randn(8, 4), torch.arange(8)
    changed = x.clone()
    changed[7, 3] = torch.nextafter(changed[7, 3], torch.tensor(torch.inf))
    inputs = [x, changed, x.view(torch.int32), x.view(8, 2, 2), {"x": x}, {"z": x}, (x,)]
    digests = [InMemory(each, y).digest() for each in inputs] + [InMemory(x, y.float()).digest()]
    assert len(set(digests)) == len(inputs) + 1
    assert InMemory(x.clone(), y.clone()).digest() == digests[0]
    assert make(split_seed=0).digest() != make(split_seed=1).digest()


def test_a_streamed_digest_is_repeatable_and_sees_length_and_sampled_contents():
    assert Streamed(Squares(50, noise=True)).digest() == Streamed(Squares(50, noise=True)).digest()
    assert Streamed(Squares(50)).digest() != Streamed(Squares(51)).digest()
    assert Streamed(Squares(50), identity="v1").digest() == Streamed(Squares(9), identity="v1").digest()


def test_splits_carved_from_an_identified_dataset_have_different_identities():
    data = Data.from_dataset("d", Squares(20), Squares(20), validation=0.5, identity="squares")
    other = Data.from_dataset("d", Squares(20), Squares(20), validation=0.5, identity="squares", split_seed=1)
    assert len({s.digest() for d in (data, other) for s in (d.train, d.validation)}) == 4


def test_numpy_arrays_are_converted_to_what_torch_trains_with():
    pair = np.ones((10, 2)), np.arange(10, dtype=np.int32)
    data = Data.from_tensors("d", pair, pair)
    assert data.train.inputs.dtype == torch.get_default_dtype()
    assert data.train.targets.dtype == torch.int64


def test_describe_is_one_line_with_the_sizes_and_the_split_seed():
    train, test = (torch.zeros(1437, 1),) * 2, (torch.zeros(360, 1),) * 2
    carved = Data.from_tensors("digits", train, test, validation=144)
    assert carved.describe() == "digits: 1,293 train, 144 validation (split seed 0), 360 test"
    assert "seed" not in Data.from_tensors("digits", train, test, validation=test).describe()


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_values_that_are_not_finite_are_refused_with_split_count_and_first_index(bad):
    x, y = torch.randn(20, 2, 2), torch.zeros(20)
    spoiled = x.clone()
    spoiled[[4, 11], 1, 0] = bad
    with pytest.raises(ValueError, match=r"mine, train split: 2 of 20 examples .* inputs, the first at index 4"):
        Data.from_tensors("mine", (spoiled, y), (x, y))
    with pytest.raises(ValueError, match=r"mine, test split: 2 of 20"):
        Data.from_tensors("mine", (x, y), (spoiled, y))
    with pytest.raises(ValueError, match=r"inputs\['pixels'\]"):
        Data.from_tensors("mine", (x, y), ({"pixels": spoiled}, y))


@pytest.mark.parametrize("validation", [0.0, 1.0, 1.5, -0.1, 0, 20, 21, True])
def test_a_validation_that_leaves_nothing_to_train_on_or_nothing_to_validate_is_refused(validation):
    with pytest.raises(ValueError, match=f"validation={validation!r}"):
        make(n_train=20, validation=validation)


@pytest.mark.parametrize(
    ("inputs", "targets", "sentence"),
    [
        (torch.zeros(3, 1), torch.zeros(4), "inputs: 3, targets: 4"),
        ({"a": torch.zeros(3), "b": torch.zeros(2)}, torch.zeros(3), r"inputs\['b'\]: 2"),
        ((), torch.zeros(3), r"inputs \(\): 0"),
        ([1, 2], torch.zeros(2), "got a list"),
        (np.array(["a", "b"]), torch.zeros(2), "got an array of <U1"),
        (torch.tensor(1.0), torch.zeros(2), "without dimensions"),
    ],
)
def test_what_cannot_be_examples_is_refused_saying_what_was_seen(inputs, targets, sentence):
    with pytest.raises(ValueError, match=sentence):
        InMemory(inputs, targets)


def test_empty_splits_and_unindexable_or_unpaired_datasets_are_refused():
    x = torch.zeros(4, 1)
    with pytest.raises(ValueError, match="mine, test split: there are no examples"):
        Data.from_tensors("mine", (x, x), (x[:0], x[:0]))
    with pytest.raises(ValueError, match="no length or no index"):
        Streamed(iter(()))  # pyright: ignore
    with pytest.raises(ValueError, match=r"a pair .* got 3 parts"):
        next(batches(Streamed(TensorDataset(x, x, x)), 2, seed=0))
    with pytest.raises(ValueError, match=r"a pair .* got 3 parts"):
        Data.from_dataset("mine", TensorDataset(x, x, x), TensorDataset(x, x))
    with pytest.raises(ValueError, match="batch_size=0"):
        batches(numbered(3), 0, seed=0)


images = st.tuples(st.integers(1, 6), st.integers(1, 3), st.integers(1, 9), st.integers(1, 9))


@pytest.mark.parametrize(
    ("side", "crop", "pixels"),
    [
        *[(32, 0.125, 4), (28, 0.125, 4), (27, 0.125, 3), (16, 0.125, 2), (224, 0.125, 28)],
        *[(8, 0.125, 1), (3, 0.125, 1), (1, 0.125, 1), (32, 0.25, 8), (32, 0.03, 1), (7, 0.5, 4), (8, 0.5, 4)],
    ],
)
def test_padding_is_a_share_of_the_side_with_halves_rounded_up_and_never_nothing(side, crop, pixels):
    assert padding(side, crop) == pixels


@settings(deadline=None)
@given(images, seeds, st.integers(0, 1000), st.sampled_from([0.01, 0.125, 0.3, 0.5]))
def test_every_augmented_image_is_a_possibly_mirrored_crop_of_the_padded_one(shape, seed, step, crop):
    x = torch.rand(shape)
    out = augment(x, ("pad-crop", "flip"), seed, step, crop)
    assert torch.equal(out, augment(x.clone(), ("pad-crop", "flip"), seed, step, crop))
    _, _, h, w = shape
    high, wide = padding(h, crop), padding(w, crop)
    padded = F.pad(x, (wide, wide, high, high))
    for image, source in zip(out, padded, strict=True):
        crops = source.unfold(1, h, 1).unfold(2, w, 1).permute(1, 2, 0, 3, 4).reshape(-1, *image.shape)
        assert any(torch.equal(c, image) or torch.equal(c, image.flip(2)) for c in crops)


@pytest.mark.parametrize(
    ("height", "width", "crop", "up", "across"), [(9, 9, 4 / 9, 4, 4), (9, 33, 0.125, 1, 4), (33, 9, 0.125, 4, 1)]
)
def test_crops_reach_every_offset_equally_often_and_no_other(height, width, crop, up, across):
    x = torch.zeros(4000, 1, height, width)
    x[:, 0, height // 2, width // 2] = 1
    at = augment(x, ("pad-crop",), 0, 0, crop).flatten(1).argmax(1)
    reached = torch.bincount(at, minlength=height * width).view(height, width)
    middle = reached[height // 2 - up : height // 2 + up + 1, width // 2 - across : width // 2 + across + 1]
    assert middle.sum() == 4000
    mean = 4000 / middle.numel()
    assert middle.min() > mean - 4.5 * mean**0.5
    assert middle.max() < mean + 4.5 * mean**0.5


def test_half_of_the_images_are_flipped():
    ramp = torch.arange(4.0).expand(4000, 1, 4, 4)
    flipped = augment(ramp, ("flip",), 0, 0, 0.125)[:, 0, 0, 0] == 3
    assert 0.45 < flipped.float().mean() < 0.55


def test_draws_differ_between_steps_seeds_and_images():
    x = torch.rand(64, 1, 12, 12)
    names = ("pad-crop", "flip")
    assert not torch.equal(augment(x, names, 0, 0, 0.25), augment(x, names, 0, 1, 0.25))
    assert not torch.equal(augment(x, names, 0, 0, 0.25), augment(x, names, 1, 0, 0.25))
    same = x[:1].expand(64, -1, -1, -1)
    assert len(augment(same, names, 0, 0, 0.25).flatten(1).unique(dim=0)) > 10


def test_unknown_augmentations_and_inputs_that_are_no_images_are_refused():
    with pytest.raises(ValueError, match="did you mean 'flip'"):
        augment(torch.rand(1, 1, 4, 4), ("flipp",), 0, 0, 0.125)
    with pytest.raises(ValueError, match=r"got \[5, 3\]"):
        augment(torch.rand(5, 3), ("flip",), 0, 0, 0.125)
    with pytest.raises(ValueError, match="got a dict"):
        augment({"x": torch.rand(1, 1, 4, 4)}, ("flip",), 0, 0, 0.125)
