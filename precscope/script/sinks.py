"""Several models in one Recording: names with a prefix, steps and coverage put together."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from precscope.facts import Site, StepRecord, UpdateWindow, Window
from precscope.recording import RecordingWriter
from precscope.script.discovery import Root

HANDED_BACK = "handed back by torch.autograd.grad, which calls no hook of a parameter"


class SharedRecording:
    """What the models of a script have in common: the file, the steps, the coverage.

    Attributes:
        unseen_gradients: calls of ``torch.autograd.grad`` for parameters of an optimizer.
    """

    def __init__(self, writer: RecordingWriter) -> None:
        self.writer = writer
        self.is_writing = False
        self.unseen_gradients = 0
        self._steps: dict[int, StepRecord] = {}
        self._coverage: dict[str, dict[str, Any]] = {}
        self._errors: list[dict[str, Any]] = []

    def add_step(self, record: StepRecord) -> None:
        """Of several models, the step keeps the largest gradient and the loss that is known."""
        known = self._steps.get(record.step)
        if known is not None:
            largest = max(known, record, key=lambda r: r.gradient_amax)
            loss = known.loss if known.loss is not None else record.loss
            record = replace(largest, loss=loss)
        self._steps[record.step] = record
        self.writer.add_step(record)

    def flush(self) -> bool:
        """Write everything so far; ``is_writing`` meanwhile, for a signal that comes then."""
        self.is_writing = True
        try:
            return self.writer.flush()
        finally:
            self.is_writing = False

    def put_error(self, where: str, message: str) -> None:
        """Note that a model could not be watched."""
        self._errors.append({"where": where, "message": message, "count": 1})

    def put_coverage(self, name: str, document: dict[str, Any]) -> None:
        """Store the coverage of all models so far as one document."""
        self._coverage[name] = document
        documents = list(self._coverage.values())
        totals = {key: sum(d[key] for d in documents) for key in ("modules_seen", "sites")}
        lists = ("modules_not_seen", "tensors_skipped", "observer_errors")
        joined = {key: [entry for d in documents for entry in d[key]] for key in lists}
        joined["observer_errors"] += self._errors
        if self.unseen_gradients:
            joined["tensors_skipped"].append(
                {"what": "weight gradients", "reason": HANDED_BACK, "count": self.unseen_gradients}
            )
        steps = max(d["observed_steps"] for d in documents)
        self.writer.put_document("coverage", {**totals, **joined, "observed_steps": steps})


class RootSink:
    """The sink of one model's Monitor: every name under the model's prefix."""

    def __init__(self, shared: SharedRecording, root: Root) -> None:
        self._shared = shared
        self._root = root

    def add_site(self, site: Site) -> int:
        """Register the site."""
        return self._shared.writer.add_site(replace(site, name=self._root.named(site.name)))

    def add_window(self, site_id: int, window: Window) -> None:
        """Add one site's statistics."""
        self._shared.writer.add_window(site_id, window)

    def add_step(self, record: StepRecord) -> None:
        """Add a step, which other models of the script may have as well."""
        self._shared.add_step(record)

    def add_update(self, window: UpdateWindow) -> None:
        """Add one parameter's update retention."""
        named = replace(window, parameter=self._root.named(window.parameter))
        self._shared.writer.add_update(named)

    def put_document(self, name: str, value: Any) -> None:
        """Coverage of all models is one document; others have the model's name in theirs."""
        if name != "coverage":
            suffix = f" {self._root.name}" if self._root.name else ""
            self._shared.writer.put_document(f"{name}{suffix}", value)
            return
        for entry in value["modules_not_seen"]:
            entry["name"] = self._root.named(entry["name"])
        self._shared.put_coverage(self._root.name, value)

    def flush(self) -> object:
        """Write everything so far."""
        return self._shared.flush()
