"""What `fuzz.py` damages beside the codecs' own payloads: files of other encoders, and files that our readers read."""

import io
import json
import tarfile
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageCms

from precomp_data import CocoDetection, MaskFolder, VocDetection, WebDatasetShards
from precomp_sdk import Registry, Sample, TaskDataset
from precomp_sdk.config import load_experiment
from precomp_sdk.image_io import decode_image
from precomp_sdk.testing import FakeCodec, natural_image
from precomp_sdk.training import read_module, read_torch_file, save_module
from precomp_sdk.weights import read_state

__all__ = ["foreign_payloads", "readers"]

SIZE = (40, 33)  # height, width
Reader = tuple[list[bytes], Callable[[bytes], object]]  # whole files, and what reads one

_FOREIGN: Mapping[str, list[tuple[str, str, dict[str, Any]]]] = {  # codec: (Pillow's format, mode, options of saving)
    "jpeg": [
        ("JPEG", "RGB", {"progressive": True}),
        ("JPEG", "RGB", {"restart_marker_blocks": 2, "subsampling": 1}),
        ("JPEG", "L", {"optimize": True}),
        ("JPEG", "CMYK", {"progressive": True}),
    ],
    "webp": [
        ("WEBP", "RGB", {"lossless": True}),
        ("WEBP", "RGBA", {"quality": 50, "alpha_quality": 30}),
        ("WEBP", "RGB", {"save_all": True}),
    ],
    "avif": [("AVIF", "RGBA", {}), ("AVIF", "RGB", {"save_all": True, "subsampling": "4:4:4"})],
    "heic": [("HEIF", "RGBA", {}), ("HEIF", "RGB", {"save_all": True})],
    "jpeg-xl": [
        ("JXL", "RGB", {"lossless": True, "use_container": False}),
    ],
    "jpeg2000": [
        ("JPEG2000", "RGB", {"no_jp2": True, "tile_size": (16, 16)}),
        ("JPEG2000", "L", {"no_jp2": True, "irreversible": True, "quality_layers": [40, 20, 5]}),
    ],
}
_IMAGE_FILES: Mapping[str, list[tuple[str, str, dict[str, Any]]]] = {
    "JPEG": [*_FOREIGN["jpeg"], ("JPEG", "RGB", {"exif": True, "icc_profile": True})],
    "PNG": [
        ("PNG", "RGB", {"icc_profile": True, "exif": True}),
        ("PNG", "I;16", {}),
        ("PNG", "P", {"transparency": 3}),
        ("PNG", "RGBA", {}),
        ("PNG", "1", {}),
    ],
    "TIFF": [
        ("TIFF", "RGB", {"compression": "tiff_lzw"}),
        ("TIFF", "RGB", {"compression": "tiff_adobe_deflate"}),
        ("TIFF", "RGB", {"compression": "jpeg"}),
        ("TIFF", "I;16", {}),
        ("TIFF", "CMYK", {"compression": "packbits"}),
    ],
    "WEBP": [*_FOREIGN["webp"], ("WEBP", "RGB", {"exif": True, "icc_profile": True})],
    "AVIF": [*_FOREIGN["avif"], ("AVIF", "RGB", {"exif": True})],
    "HEIF": _FOREIGN["heic"],
    "JXL": [("JXL", "RGB", {}), ("JXL", "RGBA", {}), ("JXL", "L", {}), *_FOREIGN["jpeg-xl"]],
    "JPEG2000": [("JPEG2000", "RGB", {}), ("JPEG2000", "RGBA", {}), *_FOREIGN["jpeg2000"]],
    "GIF": [("GIF", "P", {"save_all": True}), ("GIF", "L", {"transparency": 1})],
    "BMP": [("BMP", "RGB", {}), ("BMP", "P", {}), ("DIB", "1", {})],
    "QOI": [("QOI", "RGB", {}), ("QOI", "RGBA", {})],
    "PPM": [("PPM", "RGB", {}), ("PPM", "1", {}), ("PPM", "I;16", {})],
    "TGA": [("TGA", "RGB", {}), ("TGA", "P", {"compression": "tga_rle"})],
}
_EXPERIMENT = """
[codec]
name = "jpeg"
[preprocessor]
name = "qa-light"
width = 16
[task]
name = "small-classifier"
num_classes = 3
[data.train]
name = "scenes"
count = 8
[data.val]
name = "scenes"
count = 8
[train]
ladder = [5, 20]
lambdas = {5 = 1.0, 20 = 0.5}
[output]
folder = "run"
"""


def foreign_payloads(codec: str) -> list[bytes]:
    """Return payloads of other encoders in a codec's format."""
    return [_file(*form) for form in _FOREIGN.get(codec, [])]


def readers() -> dict[str, Reader]:
    """Return every reader of files, by its name, with whole files of it."""
    able = Image.registered_extensions().values()
    found: dict[str, Reader] = {
        f"image: {kind}": ([_file(*form) for form in forms], decode_image)
        for kind, forms in _IMAGE_FILES.items()
        if decode_image(_file("PNG", "RGB", {})) and kind in able
    }
    folder = Path(tempfile.mkdtemp(prefix="precomp-fuzz-"))  # of this process; a file is written anew for each read

    def by_path(name: str, read: Callable[[Path], object]) -> Callable[[bytes], object]:
        def reader(content: bytes) -> object:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            return read(path)

        return reader

    network = Registry().create("preprocessor", "qa-light", width=16, depth=1)
    facts = {"codec": FakeCodec.name, "ladder": [1.0, 8.0]}
    save_module(folder / "whole.safetensors", network, name=network.name, options=network.options, facts=facts)
    torch.save(network.state_dict(), folder / "whole.pth")
    torch.save({"step": 3, "rng": torch.get_rng_state()[:64], "lambdas": {5: 1.0}}, folder / "state.pt")
    weights, plain, state = ((folder / name).read_bytes() for name in ("whole.safetensors", "whole.pth", "state.pt"))
    image = _file("PNG", "RGB", {})
    for place in ("coco/images/train/a.png", "voc/JPEGImages/a.png", "masks/images/train/a.png"):
        (folder / place).parent.mkdir(parents=True)
        (folder / place).write_bytes(image)
    (folder / "voc/ImageSets/Main").mkdir(parents=True)
    (folder / "voc/ImageSets/Main/train.txt").write_text("a\n")
    return found | {
        "weights": ([weights], by_path("w.safetensors", read_module)),
        "state dict": ([plain], by_path("w.pth", read_state)),
        "run state": ([state], by_path("s.pt", read_torch_file)),
        "experiment": ([_EXPERIMENT.encode()], by_path("e.toml", load_experiment)),
        "shard": (
            [_shard(image)],
            by_path("shards/a.tar", lambda path: every(WebDatasetShards(root=path.parent))),
        ),
        "coco": (
            [_coco()],
            by_path("coco/annotations_train.json", lambda path: CocoDetection(root=path.parent)[0]),
        ),
        "voc": ([_VOC.encode()], by_path("voc/Annotations/a.xml", lambda path: VocDetection(root=path.parents[1])[0])),
        "mask": (
            [_file("PNG", "L", {}), _file("PNG", "P", {})],
            by_path(
                "masks/masks/train/a.png",
                lambda path: MaskFolder(root=path.parents[2], classes=[str(number) for number in range(255)])[0],
            ),
        ),
    }


_VOC = """<?xml version="1.0"?><annotation><size><width>33</width><height>40</height></size><object><name>cat</name>
<difficult>0</difficult><bndbox><xmin>2</xmin><ymin>2</ymin><xmax>20</xmax><ymax>20</ymax></bndbox></object></annotation>
"""


def every(dataset: TaskDataset) -> list[Sample]:
    """Return all samples of a data set."""
    return [dataset[index] for index in range(len(dataset))]


def _coco() -> bytes:
    box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [2, 2, 9.5, 9], "iscrowd": 0, "area": 81}
    image = {"id": 1, "file_name": "a.png", "width": SIZE[1], "height": SIZE[0]}
    categories = [{"id": 1, "name": "x"}]
    return json.dumps({"images": [image], "annotations": [box], "categories": categories}).encode()


def _shard(image: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in (("0.png", image), ("0.cls", b"1"), ("1.png", image), ("1.cls", b"0\n")):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def _file(kind: str, mode: str, options: Mapping[str, Any]) -> bytes:
    image = Image.fromarray(natural_image(*SIZE, seed=3).permute(1, 2, 0).numpy())
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) << 8)
    elif mode != "RGB":
        image = image.quantize(16) if mode == "P" else image.convert(mode)
    options = dict(options)
    if options.get("save_all"):
        options["append_images"] = [image.rotate(9), image.rotate(18)]
    if options.get("exif"):
        exif = Image.Exif()
        exif[0x0112] = 6
        options["exif"] = exif
    if options.get("icc_profile"):
        options["icc_profile"] = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()
