"""Hydra search-path plugin of mapanything-opv2v. `hydra_plugins` itself is a namespace package."""
