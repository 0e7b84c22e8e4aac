"""Pictures of cases and plans."""
