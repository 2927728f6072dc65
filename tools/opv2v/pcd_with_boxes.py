"""Show LiDAR sweeps with vehicle boxes: `pointcloud --points lidar` under the name that the research notes use."""

import sys

from mapanything_opv2v.cli import main

sys.exit(main(["pointcloud", "--points", "lidar", *sys.argv[1:]]))
