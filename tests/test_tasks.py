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


def of_all(*everywhere):
    """All methods on torch; on JAX and TensorFlow these, which show it for the others."""
    methods = (mae, simmim, mixmim, mae_following, data2vec)
    marks = {f: [] if f in everywhere else [pytest.mark.one_backend] for f in methods}
    params = [pytest.param(f, marks=marks[f], id=f.__name__) for f in methods]
    return pytest.mark.parametrize("make", params)


@of_all(mae_following, data2vec)
def test_every_input_gives_the_same_losses(make, images):
    contracts.check_every_input_gives_the_same_losses(make, images)


@of_all()
def test_each_image_is_read_once(make, images):
    contracts.check_each_image_is_read_once(make, images)


@of_all(mae_following)
def test_epochs_continue(make, images):
    contracts.check_epochs_continue(make, images)


@of_all(mixmim)
def test_validation_loss_is_one_number(make, images):
    contracts.check_validation_loss_is_one_number(make, images)


@of_all(mae_following)
def test_keras_file(make, images, tmp_path):
    contracts.check_keras_file(make, images, tmp_path)


@of_all()
def test_wrong_masks(make, images):
    contracts.check_wrong_masks(make, images)


DROPPED = {
    "mae": lambda: mae(0.8),
    "simmim": lambda: simmim(backbone={"drop_path_rate": 0.8}),
    "mixmim": lambda: mixmim(backbone={"drop_path_rate": 0.8}),
    "data2vec": lambda: data2vec(0.8),
}


@pytest.mark.parametrize("make", DROPPED.values(), ids=list(DROPPED))
def test_drop_path_is_on(make, images):
    contracts.check_drop_path_is_on(make, images)


@of_all(mae_following, mixmim)
def test_preset(make, images, tmp_path):
    contracts.check_preset(make, images, tmp_path)
