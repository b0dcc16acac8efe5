"""Random changes of training pictures: geometry in the loader process, colour in one batched pass on the device."""

import math
import os
from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fer_lightning.data.canonical import Picture
from fer_lightning.data.config import AugmentationConfig, AugmentationKind

Geometry = Callable[[Picture, np.random.Generator], Picture]

# ITU-R BT.601 luma, and the YIQ chroma axes that a hue rotation turns.
_RGB_TO_YIQ = torch.tensor([[0.299, 0.587, 0.114], [0.595716, -0.274453, -0.321263], [0.211456, -0.522591, 0.311135]])


class Jitter(NamedTuple):
    """Colour change of one picture."""

    brightness: float
    """Factor."""
    contrast: float
    """Factor about the picture's mean luma."""
    saturation: float
    """Factor about each pixel's luma."""
    hue: float
    """Rotation about the grey axis in turns."""


def sample_generator(seed: int, epoch: int, slot: int) -> np.random.Generator:
    """Return the random numbers of one training sample: a function of (seed, epoch, slot), of no worker and no order."""
    return np.random.Generator(np.random.Philox(key=seed, counter=[0, 0, epoch, slot]))


def draw_jitter(config: AugmentationConfig, random: np.random.Generator) -> Jitter:
    """Draw the colour change of one picture, each factor uniform in 1 +- its setting."""
    low = np.array([-config.brightness, -config.contrast, -config.saturation, -config.hue])
    change = random.uniform(low, -low)
    return Jitter(1 + change[0], 1 + change[1], 1 + change[2], change[3])


def make_geometry(config: AugmentationConfig) -> Geometry:
    """Return the random geometry of a recipe.

    Args:
        config: recipe.

    Returns:
        `(picture, random) -> picture` of the same size.
    """
    if config.kind is AugmentationKind.none:
        return lambda picture, _: picture
    if config.kind is AugmentationKind.light:
        return lambda picture, random: _crop_and_flip(picture, config, random)
    return _albumentations_geometry(config)


def _crop_and_flip(picture: Picture, config: AugmentationConfig, random: np.random.Generator) -> Picture:
    size = picture.shape[0]
    area = size * size * random.uniform(config.crop_scale_min, 1.0)
    ratio = math.exp(random.uniform(-1, 1) * math.log(config.crop_ratio_max))
    height = min(size, max(1, round(math.sqrt(area / ratio))))
    width = min(size, max(1, round(math.sqrt(area * ratio))))
    top, left = int(random.integers(size - height + 1)), int(random.integers(size - width + 1))
    crop = picture[top : top + height, left : left + width]
    if crop.shape != picture.shape:
        crop = cv2.resize(crop, (size, size), interpolation=cv2.INTER_LINEAR).astype(np.uint8, copy=False)
    return crop[:, ::-1] if random.random() < config.flip_probability else crop


def _albumentations_geometry(config: AugmentationConfig) -> Geometry:
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it asks the network for news at import
    import albumentations

    pipelines: dict[int, albumentations.Compose] = {}

    def pipeline(size: int) -> albumentations.Compose:
        ratios = (1 / config.crop_ratio_max, config.crop_ratio_max)
        return albumentations.Compose(
            [
                albumentations.RandomResizedCrop((size, size), scale=(config.crop_scale_min, 1.0), ratio=ratios),
                albumentations.HorizontalFlip(p=config.flip_probability),
                albumentations.Rotate(limit=config.rotation_degrees, border_mode=cv2.BORDER_REFLECT_101, p=1.0),
                albumentations.CoarseDropout(
                    num_holes_range=(1, 1),
                    hole_height_range=(0.1, 0.3),
                    hole_width_range=(0.1, 0.3),
                    fill="random_uniform",
                    p=config.erase_probability,
                ),
            ]
        )

    def apply(picture: Picture, random: np.random.Generator) -> Picture:
        size = picture.shape[0]
        if size not in pipelines:
            pipelines[size] = pipeline(size)
        pipelines[size].set_random_seed(int(random.integers(2**31)))
        changed: NDArray[np.uint8] = pipelines[size](image=picture)["image"]
        return changed

    return apply


def to_float(pictures: Tensor) -> Tensor:
    """Turn uint8 pictures into floats in [0, 1]."""
    return pictures.to(torch.float32).mul_(1 / 255)


def jitter_colours(pictures: Tensor, jitters: Tensor) -> Tensor:
    """Change the colours of a batch in one affine pass per picture.

    Brightness, contrast, saturation and hue are applied in that order. The first three follow the usual blends with
    black, mean luma and luma; hue is a rotation of the YIQ chroma plane, so that the whole change is one 3x3 matrix
    and an offset. Values are clamped to [0, 1] once, at the end.

    Args:
        pictures: (N, 3, H, W) float RGB in [0, 1].
        jitters: (N, 4) float, the fields of `Jitter`.

    Returns:
        (N, 3, H, W) float in [0, 1].
    """
    to_yiq = _RGB_TO_YIQ.to(pictures)
    brightness, contrast, saturation, hue = jitters.to(pictures).unbind(1)
    angle = 2 * math.pi * hue
    turn = torch.zeros(len(pictures), 3, 3, dtype=pictures.dtype, device=pictures.device)
    turn[:, 0, 0] = 1
    turn[:, 1, 1] = turn[:, 2, 2] = saturation * angle.cos()
    turn[:, 2, 1] = saturation * angle.sin()
    turn[:, 1, 2] = -turn[:, 2, 1]
    matrix = torch.linalg.inv(to_yiq) @ turn @ to_yiq * (brightness * contrast)[:, None, None]
    flat = pictures.flatten(2)
    mean_luma = (to_yiq[0] @ flat.mean(2).T) * brightness
    offset = (1 - contrast) * mean_luma
    return torch.baddbmm(offset[:, None, None], matrix, flat).clamp_(0, 1).view_as(pictures)
