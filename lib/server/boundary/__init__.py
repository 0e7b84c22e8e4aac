"""What every request passes before an endpoint sees it, and every answer before a client does."""
