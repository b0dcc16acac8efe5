"""Facial-expression recognition experiments that can be trusted."""

from fer_lightning import torchvision_ops

torchvision_ops.install()
