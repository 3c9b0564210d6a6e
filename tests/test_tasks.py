"""Every MIM method keeps the contracts of tasks."""

import contracts_of_tasks as contracts
import pytest
from test_mixmim import nano_task as mixmim
from test_simmim import nano_task as simmim

from mimzoo.models import ViTBackbone
from mimzoo.pretraining import (
    EMA,
    MAE,
    ConvDecoder,
    Data2Vec,
    Data2VecBackbone,
    Data2VecTarget,
    FeatureTarget,
    InverseBlockMasking,
    MAEDecoder,
)

SHAPE = (16, 24, 3)


def mae(drop_path_rate: float = 0.0, **options) -> MAE:
    backbone = ViTBackbone(SHAPE, 4, 32, 2, 2, drop_path_rate=drop_path_rate)
    return MAE(backbone, decoder=MAEDecoder(16, 1, 2), **options)


def mae_following() -> MAE:
    return mae(target=FeatureTarget(EMA(0.5, 0.9, 6), loss="mse"))


def data2vec(drop_path_rate: float = 0.0) -> Data2Vec:
    return Data2Vec(
        Data2VecBackbone(SHAPE, 4, 32, 3, 2, drop_path_rate=drop_path_rate),
        InverseBlockMasking(0.8, masks_per_image=2),
        ConvDecoder(1, groups=4, noise=0.0),
        Data2VecTarget(EMA(0.5, 0.9, 6)),
    )


@pytest.fixture(params=[mae, simmim, mixmim, mae_following, data2vec], ids=lambda f: f.__name__)
def make(request):
    return request.param


# What one method shows on JAX and TensorFlow, and all on torch.
SHOWN_BY_ONE = [
    mae_following,
    *(pytest.param(f, marks=pytest.mark.one_backend) for f in (mae, simmim, mixmim, data2vec)),
]


def test_every_input_gives_the_same_losses(make, images):
    contracts.check_every_input_gives_the_same_losses(make, images)


@pytest.mark.one_backend
def test_each_image_is_read_once(make, images):
    contracts.check_each_image_is_read_once(make, images)


def test_epochs_continue(make, images):
    contracts.check_epochs_continue(make, images)


@pytest.mark.parametrize("make", SHOWN_BY_ONE, ids=lambda f: f.__name__)
def test_keras_file(make, images, tmp_path):
    contracts.check_keras_file(make, images, tmp_path)


@pytest.mark.one_backend
def test_wrong_masks(make, images):
    contracts.check_wrong_masks(make, images)


DROPPED = [
    lambda: mae(0.8),
    lambda: simmim(backbone={"drop_path_rate": 0.8}),
    lambda: mixmim(backbone={"drop_path_rate": 0.8}),
    lambda: data2vec(0.8),
]


@pytest.mark.parametrize("make", DROPPED, ids=["mae", "simmim", "mixmim", "data2vec"])
def test_drop_path_is_on(make, images):
    contracts.check_drop_path_is_on(make, images)


def test_preset(make, images, tmp_path):
    contracts.check_preset(make, images, tmp_path)
