"""`python -m roborefer_spatial.train`: the run path of `training.train`."""

import sys

from roborefer_spatial.training.train import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
