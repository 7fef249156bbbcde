"""Observing a training from inside, without changing it."""

from precscope.monitor.monitor import Monitor as Monitor
from precscope.monitor.schedule import Schedule as Schedule
from precscope.monitor.sink import Sink as Sink
