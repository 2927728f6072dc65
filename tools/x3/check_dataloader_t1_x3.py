#!/usr/bin/env python3
"""Check one batch of an x3 training file: `roborefer-spatial check` under the research script's name."""

import sys

try:
    from roborefer_spatial.cli import main
except ImportError as error:
    sys.exit(f"{sys.executable} cannot import roborefer_spatial ({error}): pip install roborefer-spatial into it")

if __name__ == "__main__":
    sys.exit(main(["check", *sys.argv[1:]]))
