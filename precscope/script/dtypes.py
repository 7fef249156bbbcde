"""DtypeRun: which dtype each site has when the script runs under FP16 autocast."""

from __future__ import annotations

from precscope.monitor import Monitor
from precscope.monitor.sink import NullSink
from precscope.monitor.sitebook import dtype_name
from precscope.probes.autocast_dtypes import CastParameters
from precscope.script.discovery import Discovery, Root
from precscope.script.job import Events, Job
from precscope.script.mixed_use import MixedUse
from precscope.script.rerun import Rerun


class DtypeRun(Rerun):
    """A rerun that looks at dtypes, of values as they come and of weights as they are cast.

    A script that uses autocast or a ``GradScaler`` of its own is ended at once.
    """

    def __init__(self, job: Job, events: Events, discovery: Discovery) -> None:
        super().__init__(job, events, discovery)
        self._mixed = MixedUse()
        self._seen: list[tuple[Root, NullSink, CastParameters]] = []

    def found(self, root: Root) -> None:
        """Look at a new model."""
        super().found(root)
        self._mixed.look(root) if self._device is None else self._mixed.look_for_scaler()
        if self._mixed:
            self._seen.clear()
            self._rule.stop()
        sink, casts = NullSink(), CastParameters(root.module)
        kinds = ("activation", "activation_gradient")
        monitor = Monitor(root.module, root.optimizers, sink, kinds=kinds, window_steps=1)
        self._stack.callback(monitor.close)
        self._stack.enter_context(casts)
        self._seen.append((root, sink, casts))

    def close(self) -> None:
        """Tell what was seen."""
        super().close()
        sites: list[tuple[str, str, str]] = []
        for root, sink, casts in self._seen:
            sites += [(root.named(site.name), site.kind, site.dtype) for site in sink.sites]
            for name, parameter in root.module.named_parameters():
                dtype = casts.dtypes.get(name, dtype_name(parameter.dtype))
                sites += [(root.named(name), k, dtype) for k in ("weight", "weight_gradient")]
        if sites:
            self._events.tell("dtypes", sites=sites)
