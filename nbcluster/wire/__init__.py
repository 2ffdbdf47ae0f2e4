"""The wire, pure: messages <-> frames."""
