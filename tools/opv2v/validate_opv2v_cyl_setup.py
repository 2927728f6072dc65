"""Check what panoramas need, of one frame unless told: `check` under the name that the research notes use."""

import sys

from mapanything_opv2v.cli import main

sys.exit(main(["check", "--max-scenes", "1", "--need-depth", *sys.argv[1:]]))
