"""Evidence: a Recording, read once, as the advice wants it."""

from __future__ import annotations

from functools import cached_property, reduce
from typing import Any

from precscope.advice.arbiter import Arbitration, arbitrate
from precscope.advice.headroom import Headroom, headroom
from precscope.advice.loss_scale import screen_minimum
from precscope.advice.master_weights import ParameterRetention, parameter_retention
from precscope.advice.noise import (
    cancelled_parameters,
    output_gradients,
    resolved,
    without_errors_of,
)
from precscope.advice.risk import module_of
from precscope.advice.screen import (
    GradientSite,
    gradient_sites,
    is_half_gradient,
    minimum_log2_scale,
)
from precscope.facts import GRADIENT_KINDS, Site
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
    def _all_gradients(self) -> list[tuple[Site, ExponentHistogram]]:
        """As ``sites``, without adding up what no question about gradients needs."""
        sites = enumerate(self.recording.sites)
        return [(s, self.recording.histogram(i)) for i, s in sites if s.kind in GRADIENT_KINDS]

    @cached_property
    def gradients(self) -> list[GradientSite]:
        """Gradient sites that FP16 would store in half, without what is noise."""
        half = [(i, s) for i, s in enumerate(self.recording.sites) if is_half_gradient(s)]
        return gradient_sites(
            [
                (s, self._without_noise(i, s))
                for i, s in half
                if s.kind == "activation_gradient" or s.name not in self.noise
            ]
        )

    def _without_noise(self, index: int, site: Site) -> ExponentHistogram:
        """The whole run, each window by its own noise: what is small later on is not noise.

        Of a training that still runs only the sums over its windows are known.
        """
        whole = self.recording.histogram(index)
        cleaned = resolved(site, whole, self._output_gradients.get(module_of(site), 0.0))
        if cleaned is whole or minimum_log2_scale(cleaned) == minimum_log2_scale(whole):
            return whole
        terms = {} if site.kind == "activation_gradient" else self._terms_over_time(site)
        parts = [
            resolved(site, w.histogram, terms.get((w.first_step, w.last_step), 0.0))
            for w in self.recording.windows(index)
        ]
        return reduce(ExponentHistogram.merged, parts) if parts else cleaned

    @cached_property
    def _output_gradients(self) -> dict[str, float]:
        return output_gradients(self._all_gradients)

    def _terms_over_time(self, site: Site) -> dict[tuple[int, int], float]:
        """Sum of magnitudes of the output gradient of the site's module, by first and last step."""
        found: dict[tuple[int, int], float] = {}
        for index, other in enumerate(self.recording.sites):
            if other.kind == "activation_gradient" and module_of(other) == module_of(site):
                for w in self.recording.windows(index):
                    span = (w.first_step, w.last_step)
                    found[span] = max(found.get(span, 0.0), w.histogram.sum_abs)
        return found

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
        return arbitrate(without_errors_of(self.noise, self.recording.document("gradient_probe")))

    @cached_property
    def noise(self) -> set[str]:
        """Parameters whose gradient is rounding error."""
        return cancelled_parameters(self._all_gradients)

    def residual(self) -> dict[str, Any] | None:
        """Gradient errors during the advised run, as measured, without those of noise."""
        return without_errors_of(self.noise, self.recording.document("residual"))

    @cached_property
    def retention(self) -> list[ParameterRetention]:
        """Update retention of every parameter, in the order of the model."""
        half, noise = self._half_weights, self.noise
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
