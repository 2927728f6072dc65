"""Hydra configs, found as `pkg://mapanything_opv2v.configs`."""
