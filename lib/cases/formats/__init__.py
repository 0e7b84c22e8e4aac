"""Image files: headers read first and strictly, voxels later, one array order for every format."""
