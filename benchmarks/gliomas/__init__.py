"""Generated multi-contrast gliomas: anatomy, lesions, scanners, and the patients of the pool."""
