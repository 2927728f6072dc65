"""`python -m roborefer_spatial.launch`: the run path of `training.launch`."""

import sys

from roborefer_spatial.training.launch import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
