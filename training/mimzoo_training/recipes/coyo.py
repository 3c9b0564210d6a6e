"""MAE and strong targets on subsets of COYO: Lu et al., arXiv 2305.15248.

Of the paper only the abstract could be read: random subsets of 0.5M to 100M images of
COYO-700M, different sizes of models, MAE as the example, strong reconstruction targets, and that
sampling hardly matters. Sizes, targets, lengths and every hyper-parameter are ours.
"""

from mimzoo.data.named_subsets import NAMED_SUBSETS
from mimzoo_training.recipes.mae import mae_task
from mimzoo_training.recipes.objects import keras_object
from mimzoo_training.recipes.recipe_kinds import PretrainRecipe

COYO_DATA = ("coyo500k", "coyo1m", "coyo5m", "coyo10m", "coyo100m")
COYO_SIZES = ("base", "large", "huge")
COYO_METHODS = ("mae", "mae-clip")
# Teachers whose grid at 224 px is the student's: 14 x 14 with patch 16, 16 x 16 with patch 14.
TEACHERS = {
    "base": "clip_vit_base_patch16",
    "large": "clip_vit_base_patch16",
    "huge": "clip_vit_large_patch14",
}


def vit_mae_coyo(size: str, data: str, method: str = "mae") -> PretrainRecipe:
    """A cell of the COYO grid: MAE on ViT-B/16, L/16 or H/14, towards pixels or CLIP's features.

    Nothing below the abstract is known, so all is by rule: MAE's published recipe, 250K steps of
    4096 images for every cell (1.02 thousand million images seen, as the longest runs of the other
    data-scaling grid), so that cells differ in data, size and target only. The strong target is
    the output of OpenAI's CLIP vision encoder, each token normalised, smooth L1 on hidden patches.

    Expect: not known. Cost: 3 x a quarter of 17.6 (base), 61.6 (large) or 167.4 (huge) GMACs an
    image for the encoder, with CLIP one forward pass of ViT-B/16 (17.6 GMACs) or ViT-L/14 more.

    Args:
        size: "base", "large" or "huge".
        data: "coyo500k", "coyo1m", "coyo5m", "coyo10m" or "coyo100m": see
            `mimzoo.data.named_subset`; `--sampling` draws it in another way.
        method: "mae": normalised pixels; "mae-clip": features.
    """
    strong = method == "mae-clip"
    rule = "not known: MAE's on ImageNet-1K"
    known = ("batch_size", "base_learning_rate", "beta_2", "weight_decay", "crop_scale")
    parts = ("masking.mask_ratio", "decoder.embed_dim", "decoder.depth")
    inferred = dict.fromkeys((*known, *parts), rule)
    inferred |= {
        "size": "not known: MAE's sizes",
        "data": "the authors' lists are not known: mimzoo.data.named_subset",
        "length": "not known: 1.02 thousand million images for every cell",
        "warmup": "MAE's 40 of 800 epochs",
        "crop_fraction": "validation of MIM is not published; fine-tuning's 224 / 256",
    }
    features = None
    if strong:
        inferred |= {
            "target": "not known which strong targets were tried: CLIP's features",
            "target.loss": "not known: data2vec's, with the beta of Feature Distillation",
        }
        features = keras_object("FeatureTarget", loss="smooth_l1", teacher=TEACHERS[size])
    return PretrainRecipe(
        name=f"vit_{size}_{method}_{data}_250k",
        method="mae",
        task=mae_task(size, 14 if size == "huge" else 16, target=features),
        size=size,
        data=data,
        num_examples=NAMED_SUBSETS[data].count,
        image_size=224,
        length="250k",
        batch_size=4096,
        base_learning_rate=1.5e-4,
        warmup="5%",
        beta_2=0.95,
        crop_scale=(0.2, 1.0),
        origin="ours: the grid of arXiv 2305.15248, of which only the abstract is known",
        inferred=inferred,
    )
