"""The verb `import_logits`: what it writes is what every verb reads, and what it will not believe."""

import csv
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from fer_lightning.data.config import DataConfig
from fer_lightning.errors import FerError
from fer_lightning.labels import EMOTIONS
from fer_lightning.pipeline.evaluate import evaluate
from fer_lightning.pipeline.evaluation.config import EvaluateRun, EvaluationCalibration, EvaluationTarget
from fer_lightning.pipeline.import_logits import import_logits
from fer_lightning.pipeline.logits.config import ForeignScores, ImportLogitsRun, JoinBy, ScoreKind
from fer_lightning.runs.artifacts import read_artifact
from fer_lightning.runs.config import RunConfig
from fer_lightning.runs.evaluation import Evaluation
from fer_lightning.runs.stored_logits import StoredLogits, read_stored_logits
from tests.data.conftest import Workshop, cycle_rows

NUM_VAL = 28


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    """14 train, 28 val and 7 test rows, in the working directory."""
    monkeypatch.chdir(tmp_path)
    shop = Workshop(tmp_path)
    shop.write([*cycle_rows(14), *cycle_rows(NUM_VAL, split="val"), *cycle_rows(7, split="test")], draw=True)
    return shop


def scores(*, seed: int = 0) -> NDArray[np.float64]:
    """Return logits of the val rows, right in most of them."""
    random = np.random.default_rng(seed)
    return random.normal(size=(NUM_VAL, 7)) + 3 * np.eye(7)[np.arange(NUM_VAL) % 7]


def write_csv(path: Path, values: NDArray[Any], *, names: tuple[str, ...] = EMOTIONS, extra: int = 0) -> Path:
    """Write the val rows last to first, and some test rows."""
    rows = [(f"pictures/val{number:03d}.png", values[number]) for number in reversed(range(NUM_VAL))]
    rows += [(f"pictures/test{number:03d}.png", values[number]) for number in range(extra)]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["image_path", *names])
        writer.writerows([name, *row.tolist()] for name, row in rows)
    return path


def run_on(file: Path | None, shop: Workshop, **options: Any) -> ImportLogitsRun:
    foreign = {name: options.pop(name) for name in list(options) if name in vars(ForeignScores())}
    data = options.pop(
        "data", DataConfig(manifest=str(shop.manifest), num_workers=0, cache_dir=str(shop.root / "cache"))
    )
    return ImportLogitsRun(
        run=options.pop("run", RunConfig(root=str(shop.root / "runs"))),
        data=data,
        foreign=ForeignScores(file=None if file is None else str(file), **{"name": "colleague", **foreign}),
        **options,
    )


def imported(shop: Workshop, name: str = "colleague") -> StoredLogits:
    (folder,) = (shop.root / "runs/foreign" / name).iterdir()
    return read_stored_logits(folder, option="test")


def test_what_is_stored_is_what_the_file_says_of_each_row(shop: Workshop, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    file = write_csv(shop.root / "preds.csv", scores(), extra=3)
    import_logits(run_on(file, shop))
    stored = imported(shop)
    np.testing.assert_array_equal(stored.logits.numpy(), scores().astype(np.float32))
    assert stored.image_paths == tuple(f"pictures/val{number:03d}.png" for number in range(NUM_VAL))
    assert stored.labels.tolist() == [number % 7 for number in range(NUM_VAL)]
    assert stored.face_sides.tolist() == [24] * NUM_VAL
    assert len(set(stored.groups.tolist())) == NUM_VAL
    assert stored.sources == ("ferplus",) * NUM_VAL
    record = stored.record
    assert (record.kind, record.dtype, record.split, record.n, record.epoch) == (
        "foreign",
        "float32",
        "val",
        NUM_VAL,
        -1,
    )
    assert (record.checkpoint, record.weights, record.view, record.canonical) == ("preds.csv", "foreign", "single", {})
    assert (record.calibration, record.rows_seen_in_training, record.requested_rows) == (None, None, NUM_VAL)
    accuracy = (scores().argmax(1) == np.arange(NUM_VAL) % 7).mean()
    assert f"imported predictions: accuracy {accuracy:.4f}, macro-F1 " in caplog.text
    assert "left aside 3 rows that are test rows of the manifest" in caplog.text
    assert "is their order right?" not in caplog.text


def test_evaluate_takes_it(shop: Workshop) -> None:
    import_logits(run_on(write_csv(shop.root / "preds.csv", scores()), shop))
    (folder,) = (shop.root / "runs/foreign/colleague").iterdir()
    target = EvaluationTarget(checkpoint=str(folder), num_resamples=0, output_dir=str(shop.root / "out"))
    evaluate(EvaluateRun(run=RunConfig(root=str(shop.root / "runs")), evaluate=target))
    evaluation = read_artifact(shop.root / "out/evaluation.json", Evaluation)
    assert evaluation.raw.accuracy == pytest.approx((scores().argmax(1) == np.arange(NUM_VAL) % 7).mean())


def test_arrays_and_columns_of_any_order_store_the_same(shop: Workshop) -> None:
    import_logits(run_on(write_csv(shop.root / "preds.csv", scores()), shop))
    order = [6, 2, 0, 5, 1, 3, 4]
    probs = torch.from_numpy(scores()).softmax(1).numpy()
    paths = np.array([f"pictures/val{number:03d}.png" for number in range(NUM_VAL)])
    names = [EMOTIONS[index] for index in order]
    np.savez(shop.root / "a.npz", probs=probs[:, order], image_paths=paths, class_order=np.array(names))
    import_logits(run_on(shop.root / "a.npz", shop, name="npz", values=ScoreKind.probs))
    np.save(shop.root / "a.npy", scores()[:, order])
    import_logits(run_on(shop.root / "a.npy", shop, name="npy", join=JoinBy.position, class_order=names))
    first = imported(shop)
    assert torch.equal(imported(shop, "npy").logits, first.logits)
    torch.testing.assert_close(imported(shop, "npz").logits.softmax(1), first.logits.softmax(1))
    assert imported(shop, "npz").row_ids == first.row_ids


def test_the_same_again_is_said_and_other_logits_are_refused(shop: Workshop, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    file = write_csv(shop.root / "preds.csv", scores())
    import_logits(run_on(file, shop))
    before = {path: path.stat().st_mtime_ns for path in (shop.root / "runs").rglob("*") if path.is_file()}
    assert "holds these very logits already" not in caplog.text
    import_logits(run_on(file, shop))
    assert "holds these very logits already" in caplog.text
    assert {path: path.stat().st_mtime_ns for path in (shop.root / "runs").rglob("*") if path.is_file()} == before
    values = scores()
    values[5, 2] += 1
    with pytest.raises(FerError, match="holds other logits, of preds.csv(.|\n)*choose another foreign.name"):
        import_logits(run_on(write_csv(shop.root / "preds.csv", values), shop))
    assert torch.equal(imported(shop).logits, torch.from_numpy(scores()).float())


def test_a_permuted_class_order_shows_at_once(shop: Workshop, caplog: pytest.LogCaptureFixture) -> None:
    names = (EMOTIONS[3], *EMOTIONS[1:3], EMOTIONS[0], *EMOTIONS[4:])
    import_logits(run_on(write_csv(shop.root / "preds.csv", scores(), names=names), shop))
    assert "with other names of the columns (Angry fits Happy, Happy fits Angry): is their order right?" in caplog.text


def test_a_join_by_position_is_warned_of_and_chance_is_told(shop: Workshop, caplog: pytest.LogCaptureFixture) -> None:
    options: dict[str, Any] = {"join": JoinBy.position, "class_order": list(EMOTIONS)}
    np.save(shop.root / "right.npy", scores())
    import_logits(run_on(shop.root / "right.npy", shop, name="right", **options))
    assert "nothing proves that row i of" in caplog.text
    assert "nothing tells this order" not in caplog.text
    np.save(shop.root / "wrong.npy", np.random.default_rng(3).permutation(scores()))
    import_logits(run_on(shop.root / "wrong.npy", shop, name="wrong", **options))
    assert "nothing tells this order of the rows from any other" in caplog.text


def test_val_rows_that_training_carves_are_carved_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shop = Workshop(tmp_path)
    shop.write(cycle_rows(70), draw=True)
    names = [f"pictures/train{number:03d}.png" for number in range(70)]
    np.savez(tmp_path / "a.npz", logits=np.eye(7)[np.arange(70) % 7] * 5, image_paths=np.array(names))
    import_logits(run_on(tmp_path / "a.npz", shop, class_order=list(EMOTIONS)))
    stored = imported(shop)
    assert 0 < stored.record.n < 70
    assert bool((stored.logits.argmax(1) == stored.labels).all())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"name": None}, "needs foreign.file=.*foreign.name=.* and data.manifest="),
        ({"name": ".."}, "foreign.name=.. is no name of a folder"),
        ({"values": ScoreKind.probs}, "are no probabilities"),
        ({"split": "train"}, "lacks 14 of the 14 train rows"),
        ({"data": DataConfig()}, "needs foreign.file=.*foreign.name=.* and data.manifest="),
        ({"evaluate": EvaluationTarget(batch_size=3)}, "evaluate.batch_size=3 would have no effect"),
        ({"calibration": EvaluationCalibration(num_bins=3)}, "calibration.num_bins=3 would have no effect"),
        ({"run": RunConfig(seed=3)}, "run.seed=3 would have no effect"),
        ({"data": DataConfig(manifest="m.csv", clahe=False)}, "data.clahe=False would have no effect"),
    ],
)
def test_what_cannot_be_taken_is_refused(shop: Workshop, options: dict[str, Any], said: str) -> None:
    file = write_csv(shop.root / "preds.csv", scores())
    with pytest.raises(FerError, match=said):
        import_logits(run_on(file, shop, **options))
    assert not (shop.root / "runs").exists()


def test_unscaled_cosines_are_refused_and_their_scale_mends_them(shop: Workshop) -> None:
    cosines = scores() / np.abs(scores()).max()
    with pytest.raises(FerError, match=r"all 28 rows lie in \[-1, 1\], as cosines do"):
        import_logits(run_on(write_csv(shop.root / "preds.csv", cosines), shop))
    assert not (shop.root / "runs").exists()
    import_logits(run_on(write_csv(shop.root / "preds.csv", 30 * cosines), shop))
    np.testing.assert_allclose(imported(shop).logits.numpy(), 30 * cosines, rtol=1e-6)


def test_without_a_file_it_is_asked_for(shop: Workshop) -> None:
    with pytest.raises(FerError, match="needs foreign.file="):
        import_logits(run_on(None, shop))
