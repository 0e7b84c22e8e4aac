"""Image files: strict headers first, voxels later, one array order for every format."""
