"""Check that panoramas can be made of the first frame: `mapanything-opv2v check --max_scenes 1 --need_depth` under the name that the research notes use."""

import sys

from mapanything_opv2v.cli import main

sys.exit(main(["check", "--max_scenes", "1", "--need_depth", *sys.argv[1:]]))
