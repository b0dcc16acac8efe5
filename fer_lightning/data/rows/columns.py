"""The columns of a manifest."""

from fer_lightning.labels import EMOTIONS

REQUIRED_COLUMNS = ("image_path", "label", "split", "source")
BBOX_COLUMNS = ("bbox_top", "bbox_left", "bbox_right", "bbox_bottom")
VOTE_COLUMNS = tuple(f"vote_{emotion}" for emotion in EMOTIONS)
OPTIONAL_COLUMNS = (
    "subject",
    "orig_image",
    "face_id",
    *BBOX_COLUMNS,
    "confidence",
    "weight",
    "neg_label",
    *VOTE_COLUMNS,
)
SPLITS = ("train", "val", "test")
