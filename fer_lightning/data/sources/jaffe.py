"""JAFFE: pictures whose name says subject and emotion."""

import re

from fer_lightning.data.sources.config import SourceConfig
from fer_lightning.data.sources.folder_files import account_others, joined, list_folder, refuse_empty, source_root
from fer_lightning.data.sources.rows import SourceReading, SourceRow

_EMOTION_OF = {
    "AN": "Angry",
    "DI": "Disgust",
    "FE": "Fear",
    "HA": "Happy",
    "NE": "Neutral",
    "SA": "Sad",
    "SU": "Surprise",
}
_NAME = re.compile(rf"([A-Z]{{2}})\.({'|'.join(_EMOTION_OF)})\d+\.\d+\.(tiff?|png|jpe?g)", re.IGNORECASE)


def read_jaffe(source: SourceConfig) -> SourceReading:
    """Read JAFFE: Lyons et al. 1998, https://doi.org/10.1109/AFGR.1998.670949.

    Names are such as `KA.AN1.39.tiff`: subject, emotion and its take, number. The emotion is the one that was posed, not
    the mean of the raters. There is no official split; `subject` keeps a person together.

    Args:
        source: `path` holds the pictures, or a folder with them.

    Raises:
        FerError: no picture with such a name.
    """
    root = source_root(source, "pictures such as KA.AN1.39.tiff")
    reading = SourceReading()
    for folder in ("", *list_folder(root).folders):
        files = list_folder(root / folder)
        account_others(reading, folder, files)
        for deeper in files.folders if folder else ():
            reading.drop(joined(folder, deeper), "folder inside a folder")
        for name in files.pictures:
            place = joined(folder, name)
            matched = _NAME.fullmatch(name)
            if matched is None:
                reading.drop(place, "name is not of the JAFFE pattern")
                continue
            label, columns = _EMOTION_OF[matched[2].upper()], {"subject": matched[1].upper()}
            reading.rows.append(SourceRow(path=f"{root.as_posix()}/{place}", label=label, split=None, columns=columns))
    refuse_empty(reading, f"no picture in {root}, or in a folder of it, has a name such as KA.AN1.39.tiff")
    return reading
