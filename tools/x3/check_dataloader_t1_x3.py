#!/usr/bin/env python3
"""One batch through RoboRefer's collator: `roborefer-spatial check-data` under the notes' name."""

import sys

from roborefer_spatial.cli import main

if __name__ == "__main__":
    sys.exit(main(["check-data", *sys.argv[1:]]))
