"""The client: submits work and holds futures."""
