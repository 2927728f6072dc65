"""Tokens."""

DEFAULT_IMAGE_TOKEN = "<image>"
DEFAULT_DEPTH_TOKEN = "<depth>"
IGNORE_INDEX = -100
MEDIA_TOKENS = {"image": "<image>", "video": "<vila/video>"}
