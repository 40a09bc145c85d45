"""Requests that continue one another: in order, one at a time, and each told which it continues."""

from jitney.sequencing.controls import Controls, fill
from jitney.sequencing.sequencer import Sequencer
from jitney.sequencing.statistics import SequencerStatistics

__all__ = ["Controls", "Sequencer", "SequencerStatistics", "fill"]
