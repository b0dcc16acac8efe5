"""Random changes of training pictures: what is drawn, the crop and flip, and one affine colour change per picture."""

import functools
import math
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from torch import Tensor

from fer_lightning.data.config import AugmentationConfig, AugmentationKind
from fer_lightning.data.pictures.canonical import Picture, expand
from fer_lightning.errors import FerError

Geometry = Callable[[Picture, NDArray[np.float64]], Picture]
"""(compact picture, uniforms of the sample) -> compact picture of the same size"""

NUM_UNIFORMS = 12
"""Random numbers of one sample: crop 0-3, flip 4, colour 5-8, an albumentations seed 9, a label by vote shares 10, a
teacher's view 11."""
LABEL_UNIFORM = 10
VIEW_UNIFORM = 11
_SEED_UNIFORM = 9
_LEVELS = np.arange(256, dtype=np.float64)
_TICKS = NUM_UNIFORMS // 4  # a tick of Philox's counter gives four doubles

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


def augmentation_at(config: AugmentationConfig, epoch: int) -> AugmentationConfig:
    """Return the augmentation of an epoch: how far each change reaches grows linearly over `ramp_epochs`.

    Epoch 0 only flips, epoch `ramp_epochs` and all after it have full strength. Crops start at the whole picture, the
    logarithm of their aspect ratio grows linearly; flips, which make no picture harder, are as likely all the time.

    Args:
        config: at full strength.
        epoch: 0-based.
    """
    if epoch >= config.ramp_epochs:
        return config
    strength = epoch / config.ramp_epochs
    return replace(
        config,
        crop_scale_min=1 + strength * (config.crop_scale_min - 1),
        crop_ratio_max=config.crop_ratio_max**strength,
        brightness=strength * config.brightness,
        contrast=strength * config.contrast,
        saturation=strength * config.saturation,
        hue=strength * config.hue,
        rotation_degrees=strength * config.rotation_degrees,
        erase_probability=strength * config.erase_probability,
    )


def sample_uniforms(seed: int, epoch: int, first_slot: int, count: int) -> NDArray[np.float64]:
    """Return the random numbers of training samples in neighbouring slots.

    Args:
        seed: of the run.
        epoch: 0-based.
        first_slot: place of the first sample in the epoch, over all ranks.
        count: number of samples.

    Returns:
        (count, NUM_UNIFORMS) in [0, 1); a sample's numbers depend on (seed, epoch, slot), on no batch and no process.
    """
    counter = np.random.Philox(key=seed, counter=[_TICKS * first_slot, 0, epoch, 0])
    return np.random.Generator(counter).random((count, NUM_UNIFORMS))


def jitters_of(config: AugmentationConfig, uniforms: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the colour change of each sample: (N, 4), the fields of `Jitter`, each uniform in its range."""
    reach = np.array([config.brightness, config.contrast, config.saturation, config.hue])
    return (np.array([1.0, 1.0, 1.0, 0.0]) + reach * (2 * uniforms[:, 5:9] - 1)).astype(np.float32)


def make_geometry(config: AugmentationConfig) -> Geometry:
    """Return the random geometry of a recipe.

    Raises:
        FerError: a pipeline file that cannot be read.
    """
    if config.kind is AugmentationKind.none:
        return lambda picture, _: picture
    if config.kind is AugmentationKind.light:
        return functools.partial(
            crop_and_flip,
            crop_scale_min=config.crop_scale_min,
            crop_ratio_max=config.crop_ratio_max,
            flip_probability=config.flip_probability,
        )
    return _albumentations_geometry(config)


def crop_and_flip(
    picture: Picture,
    uniforms: NDArray[np.float64],
    *,
    crop_scale_min: float,
    crop_ratio_max: float,
    flip_probability: float,
) -> Picture:
    """Return a crop of a picture at the picture's size, mirrored where the draw says so: the light augmentation.

    Args:
        picture: compact picture; not written to.
        uniforms: (5 or more,) in [0, 1): area, shape, row and column of the crop, then the mirror.
        crop_scale_min: smallest area share.
        crop_ratio_max: largest aspect ratio; the smallest is its inverse.
        flip_probability: of the mirror.
    """
    size = picture.shape[0]
    scale, shape, down, across, turn = uniforms[:5].tolist()
    area = size * size * (crop_scale_min + scale * (1.0 - crop_scale_min))
    ratio = crop_ratio_max ** (2 * shape - 1)
    height = min(size, max(1, round(math.sqrt(area / ratio))))
    width = min(size, max(1, round(math.sqrt(area * ratio))))
    top, left = int(down * (size - height + 1)), int(across * (size - width + 1))
    crop = picture[top : top + height, left : left + width]
    if crop.shape != picture.shape:
        crop = cv2.resize(crop, (size, size), interpolation=cv2.INTER_LINEAR).astype(np.uint8, copy=False)
    return cv2.flip(crop, 1).astype(np.uint8, copy=False) if turn < flip_probability else crop


def _albumentations_geometry(config: AugmentationConfig) -> Geometry:
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it asks the network for news at import
    import albumentations

    def strong(size: int) -> Any:
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

    if config.kind is AugmentationKind.custom:
        own = _load_pipeline(Path(config.pipeline or ""))
        pipeline: Callable[[int], Any] = lambda _: own  # noqa: E731  one of two ways to the same name
    else:
        pipeline = functools.cache(strong)

    def apply(picture: Picture, uniforms: NDArray[np.float64]) -> Picture:
        compose = pipeline(picture.shape[0])
        compose.set_random_seed(int(uniforms[_SEED_UNIFORM] * 2**31))
        changed: Picture = compose(image=expand(picture))["image"]
        if changed.shape != (*picture.shape[:2], 3) or changed.dtype != np.uint8:
            raise FerError(
                f"augmentation.pipeline must give uint8 pictures of {(*picture.shape[:2], 3)}, got {changed.dtype} of "
                f"{changed.shape}; conversion, normalisation and the final size are not its business"
            )
        return changed

    return apply


def _load_pipeline(path: Path) -> Any:
    """Read a list that `albumentations.save` wrote."""
    import albumentations

    if not path.is_file():
        raise FerError(f"augmentation.pipeline: no file {path}; write one with albumentations.save(compose, path)")
    data_format = "yaml" if path.suffix in {".yaml", ".yml"} else "json"
    try:
        loaded = albumentations.load(path, data_format=data_format)
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError, yaml.YAMLError) as error:
        raise FerError(f"augmentation.pipeline: {path} is no list that albumentations.save wrote: {error}") from error
    if not isinstance(loaded, albumentations.BaseCompose):
        raise FerError(f"augmentation.pipeline: {path} holds one {type(loaded).__name__}; wrap it in Compose")
    return loaded


def to_float(pictures: Tensor) -> Tensor:
    """Turn uint8 pictures into floats in [0, 1]."""
    return pictures.to(torch.float32).mul_(1 / 255)


def colour_matrices(jitters: Tensor) -> Tensor:
    """Return the linear part of each colour change: (N, 4) fields of `Jitter` to (N, 3, 3), RGB to RGB."""
    to_yiq = _RGB_TO_YIQ.to(jitters)
    brightness, contrast, saturation, hue = jitters.unbind(1)
    angle = 2 * math.pi * hue
    turn = torch.zeros(len(jitters), 3, 3, dtype=jitters.dtype, device=jitters.device)
    turn[:, 0, 0] = 1
    turn[:, 1, 1] = turn[:, 2, 2] = saturation * angle.cos()
    turn[:, 2, 1] = saturation * angle.sin()
    turn[:, 1, 2] = -turn[:, 2, 1]
    matrices: Tensor = torch.linalg.inv(to_yiq) @ turn @ to_yiq * (brightness * contrast)[:, None, None]
    return matrices


def jitter_colours(pictures: Tensor, jitters: Tensor) -> Tensor:
    """Change the colours of a batch in one affine pass per picture, on its device.

    Brightness, contrast, saturation and hue are applied in that order. The first three follow the usual blends with
    black, mean luma and luma; hue is a rotation of the YIQ chroma plane, so that the whole change is one 3x3 matrix
    and an offset. Values are clamped to [0, 1] once, at the end.

    Args:
        pictures: (N, 3, H, W) float RGB in [0, 1].
        jitters: (N, 4) float, the fields of `Jitter`.

    Returns:
        (N, 3, H, W) float in [0, 1].
    """
    jitters = jitters.to(pictures)
    flat = pictures.flatten(2)
    mean_luma = (_RGB_TO_YIQ[0].to(pictures) @ flat.mean(2).T) * jitters[:, 0]
    offset = (1 - jitters[:, 1]) * mean_luma
    return torch.baddbmm(offset[:, None, None], colour_matrices(jitters), flat).clamp_(0, 1).view_as(pictures)


def jitter_bytes(picture: Picture, jitter: NDArray[np.float32], matrix: NDArray[np.float32], out: Picture) -> None:
    """Do what `jitter_colours` does to one picture of bytes: what a CPU does best, in the loader's processes.

    The result differs from that of `jitter_colours` by less than 1/255. Saturation and hue leave grey as it is.

    Args:
        picture: compact picture.
        jitter: (4,), the fields of `Jitter`.
        matrix: (3, 3), its matrix from `colour_matrices`.
        out: (S, S, 3) uint8, where the result goes.
    """
    brightness, contrast = float(jitter[0]), float(jitter[1])
    grey = picture if picture.ndim == 2 else cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    offset = (1 - contrast) * brightness * cv2.mean(grey)[0]
    if picture.ndim == 2:
        table = np.rint(_LEVELS * (brightness * contrast) + offset).clip(0, 255).astype(np.uint8)
        cv2.cvtColor(cv2.LUT(picture, table), cv2.COLOR_GRAY2RGB, dst=out)
    else:
        affine = np.empty((3, 4), dtype=np.float32)
        affine[:, :3], affine[:, 3] = matrix, offset
        cv2.transform(picture, affine, dst=out)
