"""Lightning's trainer for a run's devices, and the fit itself: signals, processes that end together, clear errors."""

import atexit
import time
from subprocess import Popen

import lightning
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher
from tqdm.contrib.logging import logging_redirect_tqdm

from fer_lightning.data.datamodule import FerDataModule
from fer_lightning.errors import FerError, TrainingError
from fer_lightning.pipeline.config import TrainingRun
from fer_lightning.runs.ranks import Launcher, launcher, leads
from fer_lightning.runs.run_dir import RunDirectory
from fer_lightning.training.callbacks.stop_signals import StopSignals
from fer_lightning.training.config import TrainerConfig
from fer_lightning.training.learner import LearnerModule
from fer_lightning.training.quiet import without_advice
from fer_lightning.training.ranks import part_from_ranks
from fer_lightning.training.scoring import pick_device

_INTERRUPTED = 1
"""Lightning's exit code after Ctrl-C."""
_END_SECONDS = 2.0


def check_precision(options: TrainerConfig) -> None:
    """Refuse 16-mixed where `trainer.accelerator=auto` finds no GPU: Lightning would compute in bf16 instead.

    Raises:
        FerError: this machine cannot compute so.
    """
    if options.precision == "16-mixed" and pick_device(options.accelerator).type == "cpu":
        raise FerError(
            f"trainer.precision=16-mixed needs a GPU, and trainer.accelerator={options.accelerator} finds none here. "
            "Use bf16-mixed or 32-true"
        )


def make_trainer(run: TrainingRun, callbacks: list[lightning.Callback], logger: TensorBoardLogger) -> lightning.Trainer:
    """Return the trainer of a run.

    Raises:
        FerError: this machine has no such device.
    """
    options = run.trainer
    several = options.devices * options.num_nodes > 1
    try:
        return lightning.Trainer(
            accelerator=options.accelerator,
            devices=options.devices,
            num_nodes=options.num_nodes,
            strategy="ddp" if several and options.strategy == "auto" else options.strategy,
            plugins=_cluster_environment(),
            sync_batchnorm=options.sync_batchnorm,
            precision=options.precision,  # type: ignore[arg-type]
            deterministic=options.deterministic,
            max_epochs=run.stage.epochs,
            accumulate_grad_batches=run.stage.accumulate,
            gradient_clip_val=run.optimizer.gradient_clip_norm,
            logger=logger,
            callbacks=callbacks,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,  # the sampler knows its rank
            enable_model_summary=False,
            enable_progress_bar=leads(),
            log_every_n_steps=1,
        )
    except (MisconfigurationException, ValueError, RuntimeError) as error:
        raise FerError(f"trainer: {str(error).splitlines()[0]}") from error


def _cluster_environment() -> ClusterEnvironment:
    """Return who numbers the processes: by the same rule that decides which of them writes."""
    match launcher():
        case Launcher.torchrun:
            return TorchElasticEnvironment()
        case Launcher.slurm:
            return SLURMEnvironment(auto_requeue=False)  # its checkpoint would fall between two steps
        case Launcher.own:
            return LightningEnvironment()


def fit(
    trainer: lightning.Trainer,
    learner: LearnerModule,
    data: FerDataModule,
    directory: RunDirectory,
    signals: StopSignals,
) -> None:
    """Train to the end, on every rank; whatever ends it, no process of the run stays behind.

    Raises:
        KeyboardInterrupt: a second Ctrl-C, or one outside training.
        SystemExit: a signal stopped training, which can go on from its checkpoint.
        TrainingError: another process of the run ended.
    """
    resume_from = directory.last if directory.resuming else None
    atexit.register(part_from_ranks)  # not now: another stage of the same command trains with the same processes
    with without_advice(), logging_redirect_tqdm(), signals:
        try:
            trainer.fit(learner, datamodule=data, ckpt_path=resume_from, weights_only=True)
        except RuntimeError as error:  # the exchange of gradients fails on a lost connection
            code = _exit_code_of_another(trainer)
            _end_others(trainer)
            if code is None:
                raise
            raise TrainingError(
                f"another process of this run ended with exit code {code}; the same command with run.on_existing=resume "
                "goes on from the last checkpoint"
            ) from error
        except BaseException as stop:
            _end_others(trainer)
            if isinstance(stop, SystemExit) and stop.code == _INTERRUPTED:
                raise KeyboardInterrupt from stop
            raise


def _processes(trainer: lightning.Trainer) -> "list[Popen[bytes]]":
    """Return the processes that Lightning has started for this one's run: none where they were started from outside."""
    started = trainer.strategy.launcher
    return started.procs if isinstance(started, _SubprocessScriptLauncher) else []


def _exit_code_of_another(trainer: lightning.Trainer) -> int | None:
    """Return the exit code of a process that failed; its connection may have been lost a moment before its end."""
    deadline = time.monotonic() + _END_SECONDS
    while processes := _processes(trainer):
        code = next((process.returncode for process in processes if process.poll()), None)
        if code is not None or time.monotonic() > deadline:
            return code
        time.sleep(0.05)
    return None


def _end_others(trainer: lightning.Trainer) -> None:
    """Kill the processes that were started for this one's run; they write nothing, and would wait for it for ever."""
    processes = _processes(trainer)
    for process in processes:
        process.kill()
    processes.clear()  # Lightning's watch over them would take their end for a crash, and kill this process too
