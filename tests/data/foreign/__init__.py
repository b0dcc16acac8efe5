"""Tests of scores of other programs."""
