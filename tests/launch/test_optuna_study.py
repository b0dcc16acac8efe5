"""Searches by Optuna: what is refused before the first job, and how one goes on with the study of a killed command."""

import warnings
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from fer_lightning.errors import FerError
from fer_lightning.launch.optuna_study import is_search, prepare_search
from fer_lightning.runs.sweep_jobs import begin_job, begin_sweep

pytestmark = pytest.mark.filterwarnings("ignore")  # Optuna 2.10 and SQLAlchemy 1.4 on newer Pythons
with warnings.catch_warnings(action="ignore"):  # the same, as they are imported
    import optuna


def composed(storage: str | None = None, **sweeper: object) -> DictConfig:
    values = {"storage": storage, "study_name": None, "direction": "maximize", "n_trials": 10, "sampler": {"seed": 1}}
    target = {"_target_": "hydra_plugins.hydra_optuna_sweeper.optuna_sweeper.OptunaSweeper"}
    config = OmegaConf.create({"task": "train_teacher", "hydra": {"sweeper": {**target, **values, **sweeper}}})
    OmegaConf.set_readonly(config.hydra, True)
    return config


def test_other_sweepers_are_no_search() -> None:
    assert is_search(composed())
    assert not is_search(composed(_target_="hydra._internal.core_plugins.basic_sweeper.BasicSweeper"))


def test_a_verb_without_an_objective_is_refused(tmp_path: Path) -> None:
    config = composed()
    config.task = "evaluate"
    with pytest.raises(FerError, match=r"task=evaluate has no figure to search by; these have: train_teacher, "):
        prepare_search(config, tmp_path)


def test_minimising_the_objective_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FerError, match=r"set hydra.sweeper.direction=maximize"):
        prepare_search(composed(direction="minimize"), tmp_path)


def test_without_a_storage_nothing_is_changed(tmp_path: Path) -> None:
    config = composed()
    prepare_search(config, tmp_path)
    assert config == composed()


def test_a_database_that_cannot_be_opened_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fer_lightning.launch.optuna_study.version", lambda _: "2.1.9")
    with pytest.raises(
        FerError, match=r"needs SQLAlchemy below 2, and 2.1.9 is installed: pip install 'fer_lightning\["
    ):
        prepare_search(composed(f"sqlite:///{tmp_path}/study.db"), tmp_path)


def test_a_new_study_takes_the_name_of_the_folder(tmp_path: Path) -> None:
    config = composed(f"sqlite:///{tmp_path}/sweep/study.db")
    prepare_search(config, tmp_path / "sweep")
    sweeper = config.hydra.sweeper
    assert (sweeper.study_name, sweeper.n_trials, sweeper.sampler.seed) == ("sweep", 10, 1)


def test_a_study_goes_on_with_its_interrupted_trials_first(tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path}/study.db"
    study = optuna.create_study(storage=storage, study_name="kd", direction="maximize")
    trials = [study.ask() for _ in range(5)]
    values = [trial.suggest_float("optimizer.lr", 1e-4, 1e-2, log=True) for trial in trials[:4]]
    study.tell(trials[0], 0.5)
    study.tell(trials[1], state=optuna.trial.TrialState.FAIL)
    begin_sweep(tmp_path, ["stage.epochs"])
    begin_job(
        tmp_path, 2, [f"optimizer.lr={values[2]}", "stage.epochs=3"]
    )  # its process was killed; the others' run elsewhere
    config = composed(storage, study_name="kd")
    prepare_search(config, tmp_path)
    assert (config.hydra.sweeper.n_trials, config.hydra.sweeper.sampler.seed) == (8, 6)
    loaded = optuna.load_study("kd", storage)
    assert [trial.state.name for trial in loaded.trials] == ["COMPLETE", "FAIL", "WAITING", "RUNNING", "RUNNING"]
    again = loaded.ask()
    assert (again.number, again.suggest_float("optimizer.lr", 1e-4, 1e-2, log=True)) == (2, values[2])


def test_a_study_that_has_all_its_trials_asks_for_no_more(tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path}/study.db"
    study = optuna.create_study(storage=storage, study_name="kd", direction="maximize")
    for _ in range(3):
        study.tell(study.ask(), 0.5)
    config = composed(storage, study_name="kd", n_trials=2, sampler={"seed": None})
    prepare_search(config, tmp_path)
    assert (config.hydra.sweeper.n_trials, config.hydra.sweeper.sampler.seed) == (0, None)
