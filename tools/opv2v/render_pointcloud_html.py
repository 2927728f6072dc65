"""Show a frame's point cloud: `mapanything-opv2v pointcloud` under the name that the research notes use."""

import sys

from mapanything_opv2v.cli import main

sys.exit(main(["pointcloud", *sys.argv[1:]]))
