"""Tests of how commands reach their verbs."""
