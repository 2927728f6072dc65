"""Plugin for RoboRefer. Importing it has no side effects."""

from importlib.metadata import version

__version__ = version("roborefer-spatial")
