#!/usr/bin/env python3
"""Writes what lies beside it: small images, and what Pillow, OpenCV, torchvision and transformers make of them.
usage: record.py        needs numpy, pillow 13.0, safetensors, torch 2.15, torchvision 0.29, transformers 5.24
       record.py opencv needs numpy, opencv 4.11, safetensors: writes opencv.safetensors, behind a run without argument"""
import json
import pathlib
import struct
import sys
import zlib

import numpy as np
from safetensors.numpy import load_file, save_file

HERE = pathlib.Path(__file__).resolve().parent
SIZES = [(16, 16), (24, 14), (7, 36), (34, 50), (11, 45)]  # height, width; the image is 24 x 36


def picture(height, width, seed):
    """Slopes, edges and noise, all values used."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    slopes = np.stack([255 * x / (width - 1), 255 * y / (height - 1), 127 + 127 * np.sin(x * y / 40)], -1)
    edges = np.where(((x // 7 + y // 5) % 2 == 0)[..., None], slopes, 255 - slopes)
    noise = rng.integers(0, 256, slopes.shape)
    return np.where((x < width // 3)[..., None], noise, edges).round().clip(0, 255).astype(np.uint8)


def interlaced_png(image):
    """Adam7, which Pillow reads and does not write."""
    passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    lines = b"".join(b"\0" + row.tobytes() for y, x, dy, dx in passes for row in image[y::dy, x::dx] if row.size)
    height, width = image.shape[:2]

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 1)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")


def record_opencv():
    import cv2
    image = load_file(HERE / "resized.safetensors")["image"]
    out = {}
    for h, w in SIZES + [(12, 18), (8, 12)]:
        out[f"linear.{h}x{w}"] = cv2.resize(image, (w, h), interpolation=cv2.INTER_LINEAR)
        out[f"area.{h}x{w}"] = cv2.resize(image, (w, h), interpolation=cv2.INTER_AREA)
    save_file(out, HERE / "opencv.safetensors", {"opencv": cv2.__version__})


def record_resized(image):
    import PIL
    import torch
    import torchvision
    from PIL import Image
    from torchvision.transforms.v2 import functional as tvF
    out = {"image": image}
    modes = [("nearest", 0), ("lanczos", 1), ("bilinear", 2), ("bicubic", 3), ("box", 4), ("hamming", 5)]
    for h, w in SIZES:
        for name, number in modes:
            out[f"pillow.{name}.{h}x{w}"] = np.array(Image.fromarray(image).resize((w, h), number))
            if number >= 4:
                continue
            mode = tvF.InterpolationMode("nearest-exact" if number == 0 else name)
            tensor = torch.from_numpy(image).permute(2, 0, 1).contiguous()
            resized = tvF.resize(tensor, [h, w], interpolation=mode, antialias=True)
            out[f"torchvision.{name}.{h}x{w}"] = resized.permute(1, 2, 0).contiguous().numpy()
    save_file(out, HERE / "resized.safetensors", {"pillow": PIL.__version__, "torchvision": torchvision.__version__})


def record_files(image):
    from PIL import Image
    rgb = Image.fromarray(image)
    grey = rgb.convert("L")
    alpha = rgb.copy()
    alpha.putalpha(255)
    half = rgb.copy()
    half.putalpha(128)
    files = {
        "rgb.png": (rgb, {}), "grey.png": (grey, {}), "palette.png": (rgb.convert("P", palette=1, colors=11), {}),
        "interlaced.png": (None, {}), "one_bit.png": (rgb.convert("1"), {}), "opaque.png": (alpha, {}), "transparent.png": (half, {}),
        "sixteen_bits.png": (Image.fromarray((np.array(grey).astype(np.uint16) * 257)), {}),
        "444.jpg": (rgb, {"quality": 90, "subsampling": 0}), "420.jpg": (rgb, {"quality": 75, "subsampling": 2}),
        "422.jpg": (rgb, {"quality": 80, "subsampling": 1}),
        "progressive.jpg": (rgb, {"quality": 85, "progressive": True}), "grey.jpg": (grey, {"quality": 85}),
        "cmyk.jpg": (rgb.convert("CMYK"), {"quality": 85}),
    }
    (HERE / "files").mkdir(exist_ok=True)
    decoded = {}
    for name, (picture_, options) in files.items():
        path = HERE / "files" / name
        if picture_ is None:
            path.write_bytes(interlaced_png(image))
        else:
            picture_.save(path, **options)
        if name in ("transparent.png", "sixteen_bits.png", "cmyk.jpg"):
            continue  # refused
        loaded = Image.open(path)
        if loaded.mode == "1":
            loaded = loaded.convert("L")
        pixels = np.array(loaded if loaded.mode == "L" else loaded.convert("RGB"))
        decoded[name] = pixels if pixels.ndim == 3 else pixels[..., None]
    save_file(decoded, HERE / "decoded.safetensors")


CASES = {  # the processor, its settings, Pillow or torchvision
    "vit": ("ViT", {"size": {"height": 24, "width": 20}}),
    "vit-number": ("ViT", {"size": 16, "resample": 3, "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}),
    "vit-plain": ("ViT", {"do_resize": False, "do_normalize": False}),
    "deit": ("DeiT", {"size": {"height": 28, "width": 28}, "crop_size": {"height": 23, "width": 24}}),
    "deit-wide-crop": ("DeiT", {"size": {"height": 10, "width": 30}, "crop_size": {"height": 17, "width": 21}}),
    "convnext": ("ConvNext", {"size": {"shortest_edge": 20}, "crop_pct": 0.875}),
    "efficientnet": ("EfficientNet", {"size": {"height": 20, "width": 24}, "resample": 0}),
    "efficientnet-offset": ("EfficientNet", {"size": {"height": 20, "width": 24}, "do_center_crop": True,
                                             "crop_size": {"height": 15, "width": 15}, "rescale_offset": True, "rescale_factor": 1 / 127.5}),
    "mobilenet-v2": ("MobileNetV2", {"size": {"shortest_edge": 19}, "crop_size": {"height": 16, "width": 16}}),
    "mobilenet-v2-lanczos": ("MobileNetV2", {"size": 19, "resample": 1, "crop_size": 16}),
}


def record_processors(image):
    import transformers
    from PIL import Image
    configs, values = {}, {"image": image}
    for name, (kind, settings) in CASES.items():
        for ending in ("", "Pil"):
            processor = getattr(transformers, f"{kind}ImageProcessor{ending}")(**settings)
            pixels = processor(Image.fromarray(image), return_tensors="np")["pixel_values"][0]
            case = f"{name}{'-pil' if ending else ''}"
            values[case] = np.ascontiguousarray(pixels.transpose(1, 2, 0)).astype(np.float32)
            configs[case] = {"image_processor_type": f"{kind}ImageProcessor{ending}", **settings}
    (HERE / "processors.json").write_text(json.dumps(configs, indent=1) + "\n")
    save_file(values, HERE / "processors.safetensors", {"transformers": transformers.__version__})


if __name__ == "__main__":
    if sys.argv[1:] == ["opencv"]:
        record_opencv()
    else:
        record_resized(picture(24, 36, 1))
        record_files(picture(13, 19, 2))
        record_processors(picture(21, 29, 3))
