"""Plugin for MapAnything. Importing it has no side effects."""

from importlib.metadata import version

__version__ = version("mapanything-opv2v")
