"""Findings about single pictures: files that cannot be used, boxes that lie outside, pictures too small to show a face."""

import numpy as np

from fer_lightning.data.audit.findings import Finding, rows_finding
from fer_lightning.data.pictures.image_facts import FileStatus, ImageFacts
from fer_lightning.data.pictures.picture_faults import UNUSABLE
from fer_lightning.data.rows.boxes import boxes_outside_images
from fer_lightning.data.rows.manifest import Manifest, missing_files


def picture_findings(manifest: Manifest, facts: ImageFacts, *, min_side: int) -> list[Finding]:
    """Return unusable and tiny pictures, by line.

    Args:
        manifest: the manifest.
        facts: of the rows audited, none of them missing.
        min_side: a picture, or box, whose shorter side is smaller is tiny.
    """
    findings = [
        rows_finding(kind.value, manifest, [row], reason)
        for status, (kind, reason) in UNUSABLE.items()
        for row in facts.rows[facts.status == status].tolist()
    ]
    return [*findings, *_vanished(manifest, facts), *_boxes_outside(manifest, facts), *_tiny(manifest, facts, min_side)]


def _vanished(manifest: Manifest, facts: ImageFacts) -> list[Finding]:
    """Return files that are not there although their folder lists them: a broken link, or removed since."""
    rows = facts.rows[facts.status == FileStatus.missing]
    reasons = {fault.line: fault.reason for fault in missing_files(manifest, rows)}
    return [
        rows_finding("missing_file", manifest, [row], reasons.get(int(manifest.lines[row]), "cannot be opened"))
        for row in rows.tolist()
    ]


def _boxes_outside(manifest: Manifest, facts: ImageFacts) -> list[Finding]:
    rows = facts.rows[facts.status == FileStatus.box_outside]
    reasons = {fault.line: fault.reason for fault in boxes_outside_images(manifest, rows)}
    findings = []
    for row in rows.tolist():
        top, left, right, bottom = manifest.bboxes[row].tolist()
        reason = reasons.get(int(manifest.lines[row]), "box is outside its image")
        findings.append(
            rows_finding(
                "box_outside", manifest, [row], f"{reason}: top {top}, left {left}, right {right}, bottom {bottom}"
            )
        )
    return findings


def _tiny(manifest: Manifest, facts: ImageFacts, min_side: int) -> list[Finding]:
    boxes = manifest.bboxes[facts.rows]
    boxed = boxes[:, 0] >= 0
    heights = np.where(boxed, boxes[:, 3] - boxes[:, 0], facts.heights)
    widths = np.where(boxed, boxes[:, 2] - boxes[:, 1], facts.widths)
    small = (facts.status == FileStatus.ok) & (np.minimum(heights, widths) < min_side)
    return [
        rows_finding(
            "tiny",
            manifest,
            [int(facts.rows[place])],
            f"{'box' if boxed[place] else 'picture'} of {heights[place]} x {widths[place]} pixels (height x width)",
        )
        for place in np.flatnonzero(small).tolist()
    ]
