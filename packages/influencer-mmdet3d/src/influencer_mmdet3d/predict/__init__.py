"""What turns a point cloud into instances, around the model: tiles, superpoints, stitching, files, the page."""
