"""Tests of fer_lightning.data.audit."""
