"""The live view of a cluster, and what it becomes where there is less to show it with."""

from nbcluster.notebook.view.showing import View, show_view

__all__ = ["View", "show_view"]
