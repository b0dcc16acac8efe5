"""Tests of manifest rows."""
