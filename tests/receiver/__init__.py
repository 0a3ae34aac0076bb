"""Tests of the receiver: the pure core, real processes, storms and random moments."""
