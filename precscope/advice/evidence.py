"""Evidence: a Recording, read once, as the advice wants it."""

from __future__ import annotations

from functools import cached_property

from precscope.advice.arbiter import Arbitration, arbitrate
from precscope.advice.headroom import Headroom, headroom
from precscope.advice.loss_scale import screen_minimum
from precscope.advice.master_weights import ParameterRetention, parameter_retention
from precscope.advice.noise import cancelled_parameters
from precscope.advice.screen import GradientSite, gradient_sites, is_half_gradient
from precscope.facts import Site
from precscope.histogram import ExponentHistogram
from precscope.recording import Recording


class Evidence:
    """What the rules look at, computed once from a Recording."""

    def __init__(self, recording: Recording) -> None:
        self.recording = recording

    @cached_property
    def sites(self) -> list[tuple[Site, ExponentHistogram]]:
        """Every site with its histogram over the whole run, in execution order."""
        return [(s, self.recording.histogram(i)) for i, s in enumerate(self.recording.sites)]

    @cached_property
    def gradients(self) -> list[GradientSite]:
        """Gradient sites that FP16 would store in half."""
        half = [(i, s) for i, s in enumerate(self.recording.sites) if is_half_gradient(s)]
        return gradient_sites([(s, self.recording.histogram(i)) for i, s in half])

    @property
    def sites_in_order_of_failure(self) -> list[tuple[Site, ExponentHistogram]]:
        """``sites``, those that held NaN or inf first, by the step in which they began to."""
        steps = [self._first_bad_step(i) for i in range(len(self.sites))]
        return [self.sites[i] for i in sorted(range(len(self.sites)), key=lambda i: steps[i])]

    def _first_bad_step(self, site: int) -> float:
        histogram = self.sites[site][1]
        if not (histogram.nans or histogram.infinities):
            return float("inf")
        windows = self.recording.windows(site)
        bad = [w.first_step for w in windows if w.histogram.nans or w.histogram.infinities]
        return min(bad)

    def screen_minimum(self) -> tuple[int, str] | None:
        """Smallest scale by the histograms, and the site that sets it."""
        room = self.headroom()
        return screen_minimum(self.gradients, None if room is None else room.maximum_log2)

    def headroom(self) -> Headroom | None:
        """Largest safe scale by the largest gradients of the steps."""
        return self._headroom

    @cached_property
    def _headroom(self) -> Headroom | None:
        return headroom(list(self.recording.steps))

    def headroom_site(self) -> str | None:
        """Name of the site that sets the largest safe scale."""
        room = self.headroom()
        if room is None or room.limiting_site is None:
            return None
        site = self.recording.sites[room.limiting_site]
        return f"{site.name} ({site.kind.replace('_', ' ')})"

    def arbitration(self) -> Arbitration | None:
        """What the shadow backward found."""
        return arbitrate(self.recording.document("gradient_probe"))

    @cached_property
    def retention(self) -> list[ParameterRetention]:
        """Update retention of every parameter, in the order of the model."""
        half, noise = self._half_weights, cancelled_parameters(self.sites)
        return [
            parameter_retention(name, list(windows), half is None or name in half, name in noise)
            for name, windows in self.recording.updates.items()
        ]

    @cached_property
    def _half_weights(self) -> set[str] | None:
        """Parameters that a recipe with FP16 weights converts, None if that is not recorded.

        Not those that autocast casts: an embedding is not cast, and is an FP16 weight all the same.
        """
        names = self.recording.document("half_weights")
        return None if names is None else set(names)
