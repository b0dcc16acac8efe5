"""Reads the hparams view of a folder by TensorBoard's own plugin."""

from dataclasses import dataclass
from pathlib import Path

from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.context import RequestContext
from tensorboard.plugins.base_plugin import TBContext
from tensorboard.plugins.hparams import api_pb2, backend_context, get_experiment, list_session_groups


@dataclass(frozen=True)
class HparamsView:
    """What the view shows."""

    options: list[str]
    """In the order of the columns."""
    differing: set[str]
    """Those that the view marks as different between runs; it shows them by default."""
    metrics: list[str]
    rows: dict[str, dict[str, float | str]]
    """Run -> option or metric -> value."""


def hparams_view(folder: Path) -> HparamsView:
    """Return what `tensorboard --logdir FOLDER` shows."""
    multiplexer = EventMultiplexer()
    multiplexer.AddRunsFromDirectory(str(folder))
    multiplexer.Reload()
    provider = MultiplexerDataProvider(multiplexer, str(folder))
    context = backend_context.Context(TBContext(logdir=str(folder), multiplexer=multiplexer, data_provider=provider))
    request = api_pb2.GetExperimentRequest(hparams_limit=1000)
    experiment = get_experiment.Handler(RequestContext(), context, "", request).run()
    ask = api_pb2.ListSessionGroupsRequest(
        slice_size=1000, allowed_statuses=[api_pb2.STATUS_SUCCESS, api_pb2.STATUS_UNKNOWN]
    )
    for metric in experiment.metric_infos:
        ask.col_params.add(metric=metric.name)
    answer = list_session_groups.Handler(RequestContext(), context, "", ask).run()
    rows: dict[str, dict[str, float | str]] = {}
    for group in answer.session_groups:
        rows[group.name] = {
            option: value.string_value if value.HasField("string_value") else value.number_value
            for option, value in group.hparams.items()
        } | {metric.name.tag: metric.value for metric in group.metric_values}
    return HparamsView(
        options=[info.name for info in experiment.hparam_infos],
        differing={info.name for info in experiment.hparam_infos if info.differs},
        metrics=[info.name.tag for info in experiment.metric_infos],
        rows=rows,
    )
