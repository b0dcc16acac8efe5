"""The verb `store_logits`: one decoding for all models, shards that outlive a kill and are shared, bytes that never differ."""

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fer_lightning.data.batches import shared_decoding
from fer_lightning.data.config import DataConfig, PixelCache, SourceFilterConfig
from fer_lightning.data.pictures import store as picture_store
from fer_lightning.data.pictures.canonical import CanonicalSpec, decode_compact
from fer_lightning.data.pictures.pixel_cache import open_pictures
from fer_lightning.data.selection import select_rows
from fer_lightning.errors import FerError
from fer_lightning.pipeline.evaluation.config import EvaluateRun, EvaluationTarget, View
from fer_lightning.pipeline.logits import infer_logits, opened_models
from fer_lightning.pipeline.logits.config import LogitsType, StoreConfig, StoreLogitsRun
from fer_lightning.pipeline.logits.model_files import find_model
from fer_lightning.pipeline.logits.scores import scores_of
from fer_lightning.pipeline.rows.evaluation_rows import evaluation_rows
from fer_lightning.pipeline.store_logits import store_logits
from fer_lightning.runs.config import RunConfig
from fer_lightning.runs.stored_logits import StoredLogits, read_stored_logits
from fer_lightning.runs.stored_logits_record import LOGITS_FILE, RECORD_FILE, ROWS_FILE
from fer_lightning.training import scoring
from tests.data.conftest import Workshop
from tests.pipeline.recorded_teachers import record_rows, three_splits, write_teacher

FILES = (LOGITS_FILE, ROWS_FILE, RECORD_FILE)


@pytest.fixture(autouse=True)
def workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    """Rows of three splits and the run A on them, in the working directory."""
    monkeypatch.chdir(tmp_path)
    made = Workshop(tmp_path)
    made.write(three_splits(), draw=True)
    record_rows(write_teacher(Path("runs/A_tiny")), made.manifest)
    return made


def teacher(name: str, **options: Any) -> str:
    record_rows(write_teacher(Path("runs") / name, **options), Path("manifest.csv").absolute())
    return f"runs/{name}"


def the_run(
    *models: str, root: str = "out", batch_size: int = 4, view: View = View.single, **store: Any
) -> StoreLogitsRun:
    store.setdefault("shard_rows", 8)
    return StoreLogitsRun(
        run=RunConfig(root=root),
        evaluate=EvaluationTarget(accelerator="cpu", batch_size=batch_size, view=view),
        data=DataConfig(num_workers=0),
        store=StoreConfig(models=list(models) or ["runs/A_tiny"], **store),
    )


def folders(root: str = "out") -> dict[str, Path]:
    """Return short name -> folder of stored logits."""
    return {path.name.partition("_")[0]: path for path in sorted(Path(root, "logits").iterdir())}


def contents(root: str) -> dict[str, bytes]:
    return {
        f"{path.parent.name}/{path.name}": path.read_bytes()
        for path in Path(root, "logits").glob("*/*")
        if path.name in FILES
    }


def evaluated(model: str, root: str, *, batch_size: int = 4) -> StoredLogits:
    """Return the logits as task=evaluate infers them."""
    target = EvaluationTarget(accelerator="cpu", batch_size=batch_size)
    run = EvaluateRun(run=RunConfig(root=root), evaluate=target, data=DataConfig(num_workers=0))
    found = find_model(model, option="x")
    return scores_of(found, evaluation_rows(run, found.path.parent), run, option="x")


class Decodes:
    """Counts how often each file is decoded."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.of: Counter[str] = Counter()

        def counted(path: Path) -> Any:
            self.of[path.name] += 1
            return decode_compact(path)

        monkeypatch.setattr(shared_decoding, "decode_compact", counted)
        monkeypatch.setattr(picture_store, "decode_compact", counted)


def test_models_of_different_pictures_share_each_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    models = [
        "runs/A_tiny",
        teacher("B_big", seed=1, size=40),
        teacher("C_plain", seed=2, clahe=False),
        teacher("D_same", seed=3),
    ]
    alone = [evaluated(model, f"alone{number}", batch_size=8) for number, model in enumerate(models)]
    decodes = Decodes(monkeypatch)
    store_logits(the_run(*models, batch_size=8))
    assert set(decodes.of.values()) == {1}
    assert len(decodes.of) == 21
    for wanted, folder in zip(alone, folders().values(), strict=True):
        found = read_stored_logits(folder, option="x")
        assert torch.equal(found.logits, wanted.logits)
        assert found.record == wanted.record
    assert {stored.record.canonical["size"] for stored in alone} == {32, 40}
    assert len({stored.record.canonical_digest for stored in alone}) == 3


def test_threads_and_a_pixel_cache_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    models = ("runs/A_tiny", teacher("B_big", seed=1, size=40))
    store_logits(the_run(*models, root="plain"))
    threaded = the_run(*models, root="threads")
    threaded.data.num_workers = 2
    store_logits(threaded)
    assert contents("threads") == contents("plain")
    data = DataConfig(manifest="manifest.csv", num_workers=0, cache_dir=str(Path.cwd() / "cache"))
    selection = select_rows(data, SourceFilterConfig())
    rows = np.sort(np.concatenate([selection.rows["train"], selection.rows["val"]]))
    for size in (32, 40):
        spec = CanonicalSpec(size=size)
        options: dict[str, Any] = {"mode": PixelCache.on, "cache_dir": Path(data.cache_dir), "verify_rows": 0}
        open_pictures(selection.manifest, rows, spec, **options)
    decodes = Decodes(monkeypatch)
    store_logits(the_run(*models, root="cached"))
    assert contents("cached").keys() == contents("plain").keys()
    assert all(count <= 4 for count in decodes.of.values())  # verifying the two caches alone
    for name, content in contents("plain").items():
        assert contents("cached")[name] == content


def test_every_split_is_stored_and_seen_rows_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    store_logits(the_run(splits=["train", "val", "test"]))
    records = [read_stored_logits(path, option="x").record for path in Path("out/logits").iterdir()]
    assert {record.split: (record.n, record.rows_seen_in_training) for record in records} == {
        "train": (14, 14),
        "val": (21, 0),
        "test": (14, 0),
    }
    assert caplog.text.count(" stored\n") == 3
    caplog.clear()
    store_logits(the_run(splits=["train", "val", "test"]))
    assert caplog.text.count("had been stored") == 3
    assert "14 train rows of runs/A_tiny/best.pt (float32, 14 seen in training) had been stored" in caplog.text


def test_what_evaluate_infers_is_what_is_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    store_logits(the_run(root="stored"))
    assert contents("stored") == (evaluated("runs/A_tiny", "judged", batch_size=4), contents("judged"))[1]
    monkeypatch.setattr(infer_logits, "score_shards", lambda *_: pytest.fail("scored"))
    assert evaluated("runs/A_tiny", "stored").record.n == 21


def test_half_precision_has_a_folder_of_its_own_and_is_taken_where_there_is_no_other() -> None:
    store_logits(the_run(dtype=LogitsType.float16))
    (folder,) = Path("out/logits").iterdir()
    assert folder.name.endswith("__single__float16")
    assert np.load(folder / LOGITS_FILE).dtype == np.float16
    half = evaluated("runs/A_tiny", "out")
    assert half.record.dtype == "float16"
    assert half.logits.dtype == torch.float32
    store_logits(the_run())
    whole = evaluated("runs/A_tiny", "out")
    assert whole.record.dtype == "float32"
    assert torch.equal(whole.logits.half().float(), half.logits)
    assert not torch.equal(whole.logits, half.logits)


def test_what_half_precision_cannot_hold_is_refused_at_the_first_shard() -> None:
    loud = teacher("L_loud", scale=1e7)
    with pytest.raises(
        FerError,
        match=r"store.models: runs/L_loud/best.pt: float16 holds numbers up to 65504, and logits .* "
        r"in 8 of 8 rows: pictures/val000.png \(.*Keep them as float32 \(dtype=float32\)",
    ):
        store_logits(the_run(loud, dtype=LogitsType.float16))
    assert not contents("out")
    store_logits(the_run(loud))
    assert len(contents("out")) == 3


class Stop:
    """A scorer that raises after some batches."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, after: int) -> None:
        self.left = after
        self.batches = 0
        self._real = scoring.classifier_scorer
        monkeypatch.setattr(opened_models, "classifier_scorer", self.make)

    def make(self, *args: Any) -> Callable[[Tensor], Tensor]:
        scorer = self._real(*args)

        def stopping(pictures: Tensor) -> Tensor:
            self.batches += 1
            if self.batches > self.left:
                raise KeyboardInterrupt
            return scorer(pictures)

        return stopping


@pytest.mark.parametrize("after", [1, 3, 5])
def test_an_interrupted_store_goes_on_and_its_bytes_are_those_of_an_uninterrupted_one(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, after: int
) -> None:
    caplog.set_level(logging.INFO)
    store_logits(the_run(root="whole"))
    with monkeypatch.context() as patch:
        Stop(patch, after=after)
        with pytest.raises(KeyboardInterrupt):
            store_logits(the_run())
    assert not contents("out")
    finished = after // 2  # two batches a shard
    with monkeypatch.context() as patch:
        counted = Stop(patch, after=1000)
        store_logits(the_run())
    assert counted.batches == 6 - 2 * finished
    assert (f"{finished} of 3 shards were finished already" in caplog.text) == (finished > 0)
    assert contents("out") == contents("whole")
    assert not list(Path("out").rglob("shards"))


def interrupted_after_one_shard(monkeypatch: pytest.MonkeyPatch, run: StoreLogitsRun) -> Path:
    """Leave one finished shard, and return it."""
    with monkeypatch.context() as patch:
        Stop(patch, after=3)
        with pytest.raises(KeyboardInterrupt):
            store_logits(run)
    (shard,) = Path("out").rglob("*.npz")
    return shard


@pytest.mark.parametrize("change", ["model", "picture", "batch", "shard", "type", "damage", "forged"])
def test_a_shard_of_another_request_is_never_taken(
    monkeypatch: pytest.MonkeyPatch, workshop: Workshop, change: str
) -> None:
    shard, run = interrupted_after_one_shard(monkeypatch, the_run()), the_run()
    if change == "model":
        write_teacher(Path("runs/A_tiny"), seed=9)
    elif change == "picture":
        (workshop.root / "pictures/val001.png").write_bytes(workshop.draw("other.png").read_bytes())
    elif change == "batch":
        run.evaluate.batch_size = 3
    elif change == "shard":
        run.store.shard_rows = 9
    elif change == "type":
        run.store.dtype = LogitsType.float16
    elif change == "damage":
        shard.write_bytes(shard.read_bytes()[:-40])
    else:
        with np.load(shard) as arrays:
            forged = {name: arrays[name] for name in arrays.files}
        np.savez(shard, **forged | {"row_ids": forged["row_ids"][::-1]})
    whole = replace(run, run=replace(run.run, root="whole"))
    store_logits(whole)
    with monkeypatch.context() as patch:
        counted = Stop(patch, after=1000)
        store_logits(run)
    assert counted.batches == {"batch": 8, "shard": 7}.get(change, 6)
    assert contents("out") == contents("whole")


def test_asked_to_infer_again_it_takes_no_shard(monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted_after_one_shard(monkeypatch, the_run())
    run = the_run()
    run.evaluate.reuse_logits = False
    with monkeypatch.context() as patch:
        counted = Stop(patch, after=1000)
        store_logits(run)
        store_logits(run)
    assert counted.batches == 12
    store_logits(the_run(root="whole"))
    assert contents("out") == contents("whole")


def test_two_at_once_share_the_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    store_logits(the_run("runs/A_tiny", root="whole", shard_rows=3))
    real, counts, both = scoring.classifier_scorer, Counter[int](), threading.Barrier(2, timeout=30)

    def make(*args: Any) -> Callable[[Tensor], Tensor]:
        scorer = real(*args)

        def slowly(pictures: Tensor) -> Tensor:
            if not counts[threading.get_ident()]:
                both.wait()
            counts[threading.get_ident()] += 1
            time.sleep(0.02)
            return scorer(pictures)

        return slowly

    monkeypatch.setattr(opened_models, "classifier_scorer", make)
    failures: list[BaseException] = []

    def work() -> None:
        try:
            store_logits(the_run("runs/A_tiny", shard_rows=3))
        except BaseException as error:  # told to the test
            failures.append(error)
            raise

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failures
    assert sum(counts.values()) == 7  # each shard once
    assert min(counts.values()) >= 2
    assert contents("out") == contents("whole")
    assert not list(Path("out").rglob("shards"))


_HANGS = """
import sys, time
from pathlib import Path
from fer_lightning.data.config import DataConfig
from fer_lightning.pipeline.logits import opened_models
from fer_lightning.pipeline.logits.config import StoreConfig, StoreLogitsRun
from fer_lightning.pipeline.evaluation.config import EvaluationTarget
from fer_lightning.pipeline.store_logits import store_logits
from fer_lightning.runs.config import RunConfig
real = opened_models.classifier_scorer
def make(*args):
    scorer, count = real(*args), 0
    def hanging(pictures):
        nonlocal count
        count += 1
        if count == 4:  # in the middle of the second shard
            Path("hangs").touch()
            time.sleep(600)
        return scorer(pictures)
    return hanging
opened_models.classifier_scorer = make
store_logits(StoreLogitsRun(
    run=RunConfig(root="out"),
    evaluate=EvaluationTarget(accelerator="cpu", batch_size=4),
    data=DataConfig(num_workers=0),
    store=StoreConfig(models=["runs/A_tiny", "runs/B_big"], shard_rows=8),
))
"""


def test_shards_of_a_killed_process_are_taken_over(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    models = ("runs/A_tiny", teacher("B_big", seed=1, size=40))
    store_logits(the_run(*models, root="whole"))
    killed: list[int] = []

    def kill_when_waited_for(pid: int) -> None:
        while "waiting for shards that another process infers" not in caplog.text:
            time.sleep(0.05)
        os.kill(pid, signal.SIGKILL)
        killed.append(pid)

    process = subprocess.Popen([sys.executable, "-c", _HANGS])
    try:
        deadline = time.monotonic() + 120
        while not Path("hangs").exists():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        threading.Thread(target=kill_when_waited_for, args=(process.pid,)).start()
        counted = Stop(monkeypatch, after=1000)
        store_logits(the_run(*models))
    finally:
        process.kill()
        assert process.wait() == -signal.SIGKILL
    assert killed == [process.pid]
    assert "2 of 6 shards were finished already" in caplog.text
    assert "waiting for shards that another process infers" in caplog.text
    assert counted.batches == 8  # the third shard of both beside it, the second one after it
    assert contents("out") == contents("whole")
    assert not list(Path("out").rglob("shards"))


def test_views_are_stored_apart() -> None:
    store_logits(the_run(view=View.flip))
    (folder,) = Path("out/logits").iterdir()
    assert read_stored_logits(folder, option="x").record.view == "flip"
    assert folder.name.endswith("__flip")


def test_models_with_other_rows_are_refused_by_name(workshop: Workshop) -> None:
    other = workshop.root / "other.csv"
    kept = workshop.manifest.read_bytes()
    workshop.write(three_splits()[:-20]).rename(other)
    workshop.manifest.write_bytes(kept)
    record_rows(write_teacher(Path("runs/B_other"), seed=4), other)
    with pytest.raises(
        FerError,
        match=r"store.models: runs/A_tiny has val rows \w{8} of .*manifest.csv, and runs/B_other has val "
        r"rows \w{8} of .*other.csv\. .*data.manifest=<file>",
    ):
        store_logits(the_run("runs/A_tiny", "runs/B_other"))
    run = the_run("runs/A_tiny", "runs/B_other")
    run.data.manifest = "manifest.csv"
    store_logits(run)
    assert len(contents("out")) == 6


def test_what_has_no_effect_or_no_model_is_refused() -> None:
    with pytest.raises(FerError, match=r"task=store_logits needs store.models="):
        store_logits(replace(the_run(), store=StoreConfig()))
    run = the_run()
    run.evaluate.num_resamples = 100
    with pytest.raises(FerError, match="evaluate.num_resamples=100 would have no effect: task=store_logits stores"):
        store_logits(run)
    run = the_run()
    run.run.seed = 3
    with pytest.raises(FerError, match="run.seed=3 would have no effect"):
        store_logits(run)
    with pytest.raises(FerError, match="store.models names the same model twice: runs/A_tiny and runs/A_tiny/best.pt"):
        store_logits(the_run("runs/A_tiny", "runs/A_tiny/best.pt"))
    with pytest.raises(FerError, match="store.models: no file nowhere"):
        store_logits(the_run("nowhere"))


def test_a_model_of_other_classes_is_refused() -> None:
    from fer_lightning.runs.checkpoint_file import CHECKPOINT_KEY

    other = teacher("O_other", seed=5)
    content = torch.load(f"{other}/best.pt", weights_only=False)
    content[CHECKPOINT_KEY]["emotions"] = content[CHECKPOINT_KEY]["emotions"][::-1]
    torch.save(content, f"{other}/best.pt")
    with pytest.raises(FerError, match=r"runs/O_other/best.pt"):
        store_logits(the_run("runs/A_tiny", other))
    assert not contents("out")
