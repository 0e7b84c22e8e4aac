"""What MONAI Label's own endpoints, viewer and login need mended."""
