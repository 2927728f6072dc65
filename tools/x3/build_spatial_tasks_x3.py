#!/usr/bin/env python3
"""Build the x3 spatial task sets: `roborefer-spatial build` under the research script's name, with the same options."""

import sys

try:
    from roborefer_spatial.cli import main
except ImportError as error:
    sys.exit(f"{sys.executable} cannot import roborefer_spatial ({error}): pip install roborefer-spatial into it")

if __name__ == "__main__":
    sys.exit(main(["build", *sys.argv[1:]]))
