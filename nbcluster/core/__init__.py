"""The pure core: states and decisions. No clock, socket, random number, thread or log."""
