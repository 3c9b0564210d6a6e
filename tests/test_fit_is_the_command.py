"""`fit` in Python and `mimzoo pretrain` train alike: one input path."""

# ruff: noqa: F401, F811 (imported fixtures)

import dataclasses
import json

import keras
import numpy as np
from mimzoo_training import parts
from mimzoo_training.runner import pretrain
from runs import _pico, quiet, recipe, source

EPOCHS = 3


def plain(recipe, **task):
    """Whole images, as `fit` takes them: no crop, no flip, no drop path, whole batches."""
    return dataclasses.replace(
        recipe,
        length=f"{EPOCHS}ep",
        crop="random_resized_crop",
        crop_scale=(1.0, 1.0),
        flip=0.0,
        drop_path_rate=0.0,
        seed=3,
    ).with_task(**task)


def test_the_losses_are_the_same(recipe, source, tmp_path, quiet):
    recipe = plain(recipe)
    images = source.take(np.arange(20), "tiny train")
    run = pretrain(recipe, images, tmp_path / "run", validation=source, say=quiet[1])
    rows = [json.loads(line) for line in (run.path / "log.jsonl").read_text().splitlines()]
    keras.utils.set_random_seed(recipe.seed)
    task = parts.build_task(recipe)
    rate = parts.schedule(recipe, len(images))
    task.compile(optimizer=parts.pretrain_optimizer(recipe, task, rate))
    for x in (images, images.images):
        task.set_weights(parts_of(recipe))
        task.optimizer.iterations.assign(0)
        for slot in task.optimizer.variables[1:]:
            slot.assign(np.zeros(slot.shape))
        task.epochs_trained = 0
        history = task.fit(
            x, batch_size=4, epochs=EPOCHS, validation_data=source, seed=recipe.seed, verbose=0
        ).history
        for name in ("loss", "val_loss"):
            np.testing.assert_allclose(history[name], [row[name] for row in rows], rtol=2e-6)


def parts_of(recipe) -> list[np.ndarray]:
    """The weights that a run of the recipe begins with."""
    keras.utils.set_random_seed(recipe.seed)
    return parts.build_task(recipe).get_weights()
