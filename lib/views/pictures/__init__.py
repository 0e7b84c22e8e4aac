"""What the page shows of the images."""
