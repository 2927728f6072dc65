"""What loads a model."""

from llava.model import LlavaLlamaModel  # noqa: F401
