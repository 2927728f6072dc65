"""OPV2V and V2XSet files: the tree by names, agent YAML, images, LiDAR sweeps, depth maps.

Legend: N points, H rows, W columns. Poses are CARLA's ``[x, y, z, roll, yaw, pitch]`` in metres and degrees.
"""

from mapanything_opv2v.rawdata.agent_yaml import AgentMeta, CameraMeta, Vehicle
from mapanything_opv2v.rawdata.boxes import box_corners
from mapanything_opv2v.rawdata.images import (
    PNG_DEPTH_UNITS_PER_M,
    SKY,
    SKY_DISTANCE_M,
    assume_png_units,
    image_size,
    load_depth,
    load_image,
    save_depth,
)
from mapanything_opv2v.rawdata.names import SPLITS, AgentRecord, depth_path
from mapanything_opv2v.rawdata.pcd import PointCloud, load_pcd, save_colored_pcd, save_pcd
from mapanything_opv2v.rawdata.rigs import load_agent_yaml
from mapanything_opv2v.rawdata.tree import FrameList, FrameRecord, TreeIndex, agent_beside, index_tree, summarise

__all__ = [
    "PNG_DEPTH_UNITS_PER_M",
    "SKY",
    "SKY_DISTANCE_M",
    "SPLITS",
    "AgentMeta",
    "AgentRecord",
    "CameraMeta",
    "FrameList",
    "FrameRecord",
    "PointCloud",
    "TreeIndex",
    "Vehicle",
    "agent_beside",
    "assume_png_units",
    "box_corners",
    "depth_path",
    "image_size",
    "index_tree",
    "load_agent_yaml",
    "load_depth",
    "load_image",
    "load_pcd",
    "save_colored_pcd",
    "save_depth",
    "save_pcd",
    "summarise",
]
