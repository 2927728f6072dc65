"""Make depth maps from LiDAR sweeps: `mapanything-opv2v depth` under the name that the research notes use."""

import sys

from mapanything_opv2v.cli import main

sys.exit(main(["depth", *sys.argv[1:]]))
