"""Generated multi-contrast gliomas: anatomy, lesions, scanners, and who is in the pool."""
