"""As in the host, importing the package imports the model."""

from llava.model.language_model.llava_llama import LlavaLlamaModel  # noqa: F401
