"""Speed as ratios of two ways in one run."""

import fer_lightning  # noqa: F401  before lightning: see fer_lightning/torchvision_ops.py
