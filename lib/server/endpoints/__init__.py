"""The page's endpoints."""
