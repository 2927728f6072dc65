"""As in the host, importing the package imports everything below it."""

from llava.data.builder import *  # noqa: F403
from llava.data.dataset import *  # noqa: F403
from llava.data.datasets_mixture import *  # noqa: F403
