"""Time and memory of converting a real-size checkpoint, and whether its numbers are the same.

    python -m benchmarks.convert_checkpoint [--size base]

Makes a ViTMAE of transformers with random weights, saves it, converts it in a process of its own,
exports it again, and compares tensors, loss and predictions with the original. Needs torch and
transformers; KERAS_BACKEND chooses ours.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

SIZES = {
    "tiny": {"hidden_size": 192, "num_attention_heads": 3},
    "base": {},
    "large": {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16},
}


def make(folder: Path, size: str) -> None:
    """Saves a ViTMAE with random weights, no two alike."""
    import torch
    import transformers

    torch.manual_seed(0)
    sizes = SIZES[size]
    width = sizes.get("hidden_size", 768)
    config = transformers.ViTMAEConfig(norm_pix_loss=True, intermediate_size=4 * width, **sizes)
    model = transformers.ViTMAEForPreTraining(config)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "pos" not in name:
                weight.add_(torch.randn_like(weight) * 0.02)
    model.save_pretrained(folder)


def convert_here(folder: Path, out: Path) -> None:
    """Converts, and prints seconds and peak memory before and after, in bytes, as JSON."""
    from mimzoo.convert import convert

    before = _peak()
    start = time.perf_counter()
    convert(folder, out)
    print(json.dumps({"seconds": time.perf_counter() - start, "peaks": [before, _peak()]}))


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def compare(folder: Path, out: Path, back: Path) -> dict[str, float]:
    """Differences of loss and predictions; tensors of the export have to be equal."""
    import keras
    import torch
    import transformers
    from safetensors.numpy import load_file

    from mimzoo.convert import export
    from mimzoo.pretraining import MAE

    export(out, "hf_vit_mae", back / "model.safetensors")
    old, new = load_file(folder / "model.safetensors"), load_file(back / "model.safetensors")
    # transformers 5 saves the decoder's blocks under another name than the files on the Hub.
    old = {k.replace("decoder_encoder.layer", "decoder_layers"): v for k, v in old.items()}
    if old.keys() != new.keys() or any(not np.array_equal(v, new[k]) for k, v in old.items()):
        raise SystemExit("the export has other tensors than the file")
    theirs = transformers.ViTMAEForPreTraining.from_pretrained(folder).eval()
    rng = np.random.default_rng(0)
    images = rng.normal(size=(2, 224, 224, 3)).astype("float32")
    noise = rng.random((2, (224 // 16) ** 2)).astype("float32")
    with torch.no_grad():
        pixels = torch.tensor(images.transpose(0, 3, 1, 2))
        expected = theirs(pixels, noise=torch.tensor(noise))
    task = MAE.from_preset(str(out))
    masks = expected.mask.numpy().astype("uint8")
    inputs = {"images": images, "masks": masks}
    predictions = task(inputs)
    loss = task.compute_loss(x=inputs, y_pred=predictions)
    difference = np.abs(keras.ops.convert_to_numpy(predictions) - expected.logits.numpy()).max()
    loss = float(keras.ops.convert_to_numpy(loss))
    return {
        "predictions, greatest difference": float(difference),
        "loss, difference": abs(loss - expected.loss.item()),
    }


def main() -> None:
    """Runs all and prints the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=SIZES, default="base")
    parser.add_argument("--inside", nargs=2, type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.inside:
        convert_here(*args.inside)
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder, out, back = (Path(temporary) / name for name in ("theirs", "ours", "back"))
        make(folder, args.size)
        size = (folder / "model.safetensors").stat().st_size
        command = [sys.executable, "-m", "benchmarks.convert_checkpoint", "--inside"]
        done = subprocess.run(
            [*command, str(folder), str(out)], check=True, stdout=subprocess.PIPE, env=os.environ
        )
        found = json.loads(done.stdout.splitlines()[-1])
        before, after = found["peaks"]
        print(f"file {size / 1e6:.0f} MB, converted in {found['seconds']:.1f} s")
        print(f"peak memory {after / 1e6:.0f} MB, {before / 1e6:.0f} MB of it before (imports)")
        print(f"for the conversion {(after - before) / size:.2f} x the file")
        for name, value in compare(folder, out, back).items():
            print(f"{name} {value:.2e}")


if __name__ == "__main__":
    main()
