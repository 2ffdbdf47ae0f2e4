"""Starts and stops the processes of a cluster."""
