"""Images a second from JPEG files to normalised batches: our Loader, torch's DataLoader, tf.data.

    python -m benchmarks.input_pipeline --images photos.tar

Each decodes, crops as RandomResizedCrop does, resizes to 224 pixels, flips and normalises, with
the same number of threads or worker processes, all in turn in one run. Resizing is bicubic and
antialiased; tf.data is timed with its usual bilinear resizing without antialiasing, too, which
gives other pixels. Without --images, photographs are made of noise.
"""

import argparse
import csv
import io
import math
import multiprocessing
import os
import random
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.side_by_side import Timing, interleave

SIZE, SCALE, RATIO = 224, (0.2, 1.0), (3 / 4, 4 / 3)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def write_files(images: str | None, folder: Path, count: int, shape: tuple[int, int]) -> list[str]:
    """The JPEG files of a source in a folder, or new ones of noise; their paths."""
    if images is None:
        for number in range(count):
            (folder / f"{number:05}.jpg").write_bytes(photograph(number, *shape))
    else:
        from mimzoo.data import open_source

        source = open_source(images, "all")
        files = (source.encoded(index)[0] for index in range(len(source)))
        jpegs = [data for data in files if data[:2] == b"\xff\xd8"]
        print(f"{len(jpegs)} JPEG files of {len(source)} images")
        for number, data in enumerate(jpegs):
            (folder / f"{number:05}.jpg").write_bytes(data)
    return sorted(map(str, folder.iterdir()))


def photograph(seed: int, height: int, width: int) -> bytes:
    """Noise on all scales, which takes about as many bytes as a photograph does."""
    from PIL import Image

    rng = np.random.default_rng(seed)
    total = np.zeros((height, width, 3), np.float32)
    for level in range(1, 8):
        small = rng.normal(size=(2**level, 2**level, 3)) * 110 / 2 ** (0.8 * level)
        for channel in range(3):
            layer = Image.fromarray(small[..., channel].astype(np.float32))
            total[..., channel] += np.asarray(layer.resize((width, height), Image.BICUBIC))
    total += rng.normal(size=total.shape) * 4
    buffer = io.BytesIO()
    picture = Image.fromarray(np.clip(total + 128, 0, 255).astype(np.uint8))
    picture.save(buffer, "jpeg", quality=92)
    return buffer.getvalue()


def ours(folder: Path, batch: int, workers: int, passes: int) -> Callable[[], Iterable]:
    """Our loader, on threads."""
    from mimzoo.data import Compose, Loader, Normalize, RandomFlip, RandomResizedCrop, open_source

    source = open_source(folder, "all")
    transform = Compose([RandomResizedCrop(SIZE, SCALE, RATIO), RandomFlip()])
    return lambda: Loader(
        source,
        batch,
        transform=transform,
        normalize=Normalize(MEAN, STD),
        num_threads=workers,
        epochs=passes,
    )


class PillowDataset:
    """What torchvision's transforms do, without torchvision."""

    def __init__(self, files: list[str]) -> None:
        self.files = files

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int):
        import torch
        from PIL import Image

        with open(self.files[index], "rb") as file:
            image = Image.open(file).convert("RGB")
        left, top, width, height = self.box(*image.size)
        image = image.crop((left, top, left + width, top + height))
        image = image.resize((SIZE, SIZE), Image.BICUBIC)
        if random.random() < 0.5:
            image = image.transpose(Image.FLIP_LEFT_RIGHT)
        tensor = torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()
        tensor = tensor.to(torch.float32).div(255)
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
        return tensor.sub_(mean).div_(std)

    @staticmethod
    def box(width: int, height: int) -> tuple[int, int, int, int]:
        """torchvision's rule."""
        for _ in range(10):
            area = width * height * random.uniform(*SCALE)
            aspect = math.exp(random.uniform(*map(math.log, RATIO)))
            w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if 0 < w <= width and 0 < h <= height:
                return random.randint(0, width - w), random.randint(0, height - h), w, h
        side = min(width, height)
        return (width - side) // 2, (height - side) // 2, side, side


def torch_loader(files: list[str], batch: int, workers: int) -> Callable[[], Iterable]:
    """torch's, on processes that live as long as the benchmark."""
    from torch.utils.data import DataLoader

    loader = DataLoader(
        PillowDataset(files),
        batch,
        shuffle=True,
        num_workers=workers,
        drop_last=True,
        persistent_workers=True,
    )
    return lambda: loader


def tf_data(files: list[str], batch: int, workers: int, same: bool) -> Callable[[], Iterable]:
    """tf.data, on threads; `same`: with the resizing of the others."""
    import tensorflow as tf

    def prepare(path: "tf.Tensor") -> "tf.Tensor":
        data = tf.io.read_file(path)
        begin, size, _ = tf.image.sample_distorted_bounding_box(
            tf.image.extract_jpeg_shape(data),
            tf.zeros((1, 0, 4)),
            aspect_ratio_range=RATIO,
            area_range=SCALE,
            max_attempts=10,
            use_image_if_no_bounding_boxes=True,
        )
        window = tf.concat([begin[:2], size[:2]], 0)
        image = tf.image.decode_and_crop_jpeg(data, window, channels=3)
        method = "bicubic" if same else "bilinear"
        image = tf.image.resize(image, (SIZE, SIZE), method, antialias=same)
        image = tf.image.random_flip_left_right(image)
        return (image / 255 - tf.constant(MEAN)) / tf.constant(STD)

    options = tf.data.Options()
    options.threading.private_threadpool_size = workers
    data = tf.data.Dataset.from_tensor_slices(files).with_options(options).shuffle(len(files))
    data = data.map(prepare, num_parallel_calls=workers, deterministic=True)
    data = data.batch(batch, drop_remainder=True).prefetch(2)
    return lambda: data.as_numpy_iterator()


def cpu_seconds() -> float:
    """CPU time of this process and its living children, as Linux counts it."""
    total = time.process_time()
    for child in multiprocessing.active_children():
        fields = Path(f"/proc/{child.pid}/stat").read_text().rpartition(") ")[2].split()
        total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total


class Contender:
    """A pipeline, and the CPU seconds of its rounds.

    Args:
        make: gives the batches of a round.
        lost: images that may be missing, for last batches that are not full.
        wanted: images in a round.
    """

    def __init__(self, make: Callable[[], Iterable], lost: int, wanted: int) -> None:
        self.make, self.lost, self.wanted = make, lost, wanted
        self.cpu: list[float] = []

    def __call__(self) -> None:
        """Takes all batches, to the end, so that nobody works ahead while others are timed."""
        before = cpu_seconds()
        seen = sum(len(images) for images in self.make())
        self.cpu.append(cpu_seconds() - before)
        if seen < self.wanted - self.lost:
            raise RuntimeError(f"{seen} images came out, not {self.wanted}.")


def main(argv: list[str] | None = None) -> None:
    """Times the contenders and prints a line for each."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", help="folder, .tar or other source; default: noise")
    parser.add_argument("--count", type=int, default=200, help="images to make")
    parser.add_argument("--shape", type=int, nargs=2, default=(375, 500), help="of these")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--passes", type=int, default=2, help="over the images, in a round")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--csv", type=Path)
    args = parser.parse_args(argv)
    import tensorflow as tf
    import torch

    torch.set_num_threads(1)
    tf.config.threading.set_intra_op_parallelism_threads(args.workers)
    tf.config.threading.set_inter_op_parallelism_threads(args.workers)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        files = write_files(args.images, folder, args.count, args.shape)
        count, repeated = len(files) * args.passes, files * args.passes
        size, workers = args.batch_size, args.workers
        pipelines = {
            "mimzoo": ours(folder, size, workers, args.passes),
            "torch DataLoader": torch_loader(repeated, size, workers),
            "tf.data": tf_data(repeated, size, workers, True),
            "tf.data bilinear": tf_data(repeated, size, workers, False),
        }
        contenders = {
            name: Contender(make, size * args.passes, count) for name, make in pipelines.items()
        }
        timings = interleave(contenders, args.rounds, warmup=1)
        cpu = {name: contender.cpu[1:] for name, contender in contenders.items()}
    report(timings, cpu, count, args.csv)


def report(
    timings: list[Timing], cpu: dict[str, list[float]], count: int, path: Path | None
) -> None:
    """Prints medians, spreads and how many times faster ours is, and writes them down.

    CPU time is comparable on a busy machine, wall time is not: who gets the cores is luck there.
    """
    fields = ["contender", "images_per_second", "spread", "mimzoo_times_as_fast"]
    rows = [[*fields, "cpu_ms_per_image", "cpu_over_mimzoo"]]
    ours, ours_cpu = timings[0].seconds, cpu[timings[0].name]
    for timing in timings:
        ratio = median(b / a for a, b in zip(ours, timing.seconds, strict=True))
        work = median(b / a for a, b in zip(ours_cpu, cpu[timing.name], strict=True))
        rate, cost = count / timing.median, 1000 * median(cpu[timing.name]) / count
        figures = (
            f"{rate:.0f}",
            f"{timing.spread:.3f}",
            f"{ratio:.2f}",
            f"{cost:.2f}",
            f"{work:.2f}",
        )
        rows.append([timing.name, *figures])
        print(
            f"{timing.name:18s} {rate:6.0f} images/s ± {100 * timing.spread:4.1f} %, mimzoo is "
            f"{ratio:.2f} times as fast; {cost:5.2f} ms of CPU an image, {work:.2f} times mimzoo's"
        )
    if path:
        with path.open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(rows)


if __name__ == "__main__":
    main()
