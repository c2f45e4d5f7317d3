"""What Deskhand answers over HTTP."""
