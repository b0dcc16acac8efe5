"""What to generate: size, seed, mix and difficulty of a generated set."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from fer_lightning.labels import EMOTIONS

SPLITS = ("train", "val", "test")
SOURCES = ("ferplus", "rafdb_basic", "affectnet_full_balanced", "expw_hq")

# Shares of the emotions acted. With the default label noise the labels come out near Angry 11.4, Disgust 3.5, Fear 9.8,
# Happy 23.2, Sad 14.4, Surprise 14.1, Neutral 23.6 %, about as skewed as the cleaned mix of the four real sources.
CLASS_SHARES: dict[str, float] = {
    "Angry": 0.118,
    "Disgust": 0.032,
    "Fear": 0.095,
    "Happy": 0.246,
    "Sad": 0.142,
    "Surprise": 0.147,
    "Neutral": 0.220,
}
SOURCE_SHARES: dict[str, float] = {
    "ferplus": 0.60,
    "rafdb_basic": 0.08,
    "affectnet_full_balanced": 0.25,
    "expw_hq": 0.07,
}

_SHARES = ("val_share", "test_share", "min_intensity", "blend_share", "affectnet_label_noise", "occlusion_share")
_HIGHEST = {"pose_spread_deg": 20.0, "degradation": 3.0}  # beyond, the drawing no longer looks like a face


@dataclass(frozen=True, kw_only=True)
class GeneratedSetSpec:
    """Size, mix and difficulty of a generated set.

    Attributes:
        num_images: manifest rows (faces) without planted duplicates, at least 1.
        seed: 0..2**63-1; everything follows from it.
        val_share: share of the rows in `val`.
        test_share: share of the rows in `test`.
        source_shares: share of the rows per source; sums to 1, missing sources are left out.
        class_shares: share of the rows per acted emotion; sums to 1, all seven named. Labels differ by their noise.
        exact_duplicates: files planted with the bytes of another file, in another split.
        near_duplicates: files planted as a re-encoded or resized copy of another file, in another split.
        min_intensity: weakest expression drawn, 0..1; below about 0.3 annotators call a face neutral.
        blend_share: probability that a face mixes two neighbouring emotions, 0..1.
        agreement: probability that an annotator names what the face shows, (0, 1]; annotators err together.
        affectnet_label_noise: share of wrong labels in `affectnet_full_balanced`, 0..1.
        pose_spread_deg: standard deviation of the yaw in degrees; pitch and roll get less. At most 20.
        occlusion_share: probability that something covers a part of the face, 0..1.
        degradation: factor on the spread of light, blur and noise; 0 gives clean pictures. At most 3.
    """

    num_images: int = 6000
    seed: int = 1337
    val_share: float = 0.12
    test_share: float = 0.12
    source_shares: Mapping[str, float] = field(default_factory=lambda: dict(SOURCE_SHARES))
    class_shares: Mapping[str, float] = field(default_factory=lambda: dict(CLASS_SHARES))
    exact_duplicates: int = 0
    near_duplicates: int = 0
    min_intensity: float = 0.3
    blend_share: float = 0.25
    agreement: float = 0.88
    affectnet_label_noise: float = 0.12
    pose_spread_deg: float = 5.0
    occlusion_share: float = 0.08
    degradation: float = 1.0

    def __post_init__(self) -> None:
        if self.num_images < 1:
            raise ValueError(f"num_images is {self.num_images}; expected at least 1")
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"seed is {self.seed}; expected 0..2**63-1")
        for name in ("exact_duplicates", "near_duplicates"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; expected 0 or more")
        for name in ("pose_spread_deg", "degradation", *_SHARES):
            highest = _HIGHEST.get(name, 1.0)
            if not 0.0 <= getattr(self, name) <= highest:
                raise ValueError(f"{name} is {getattr(self, name)}; expected 0..{highest:g}")
        if self.val_share + self.test_share >= 1.0:
            raise ValueError(f"val_share + test_share is {self.val_share + self.test_share}; nothing is left for train")
        if not 0.0 < self.agreement <= 1.0:
            raise ValueError(f"agreement is {self.agreement}; expected above 0 and at most 1")
        _check_shares("source_shares", self.source_shares, SOURCES, all_named=False)
        _check_shares("class_shares", self.class_shares, EMOTIONS, all_named=True)


def _check_shares(name: str, shares: Mapping[str, float], known: tuple[str, ...], *, all_named: bool) -> None:
    unknown = sorted(set(shares) - set(known))
    if unknown:
        raise ValueError(f"{name} names {unknown[0]!r}; expected {', '.join(known)}")
    if all_named and len(shares) < len(known):
        raise ValueError(f"{name} lacks {', '.join(k for k in known if k not in shares)}")
    if any(share < 0.0 for share in shares.values()):
        raise ValueError(f"{name} holds a negative share: {dict(shares)}")
    if abs(sum(shares.values()) - 1.0) > 1e-6:
        raise ValueError(f"{name} sum to {sum(shares.values()):.6f}; expected 1")
