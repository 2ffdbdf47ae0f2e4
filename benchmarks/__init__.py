"""nbcluster measured beside its peers, in one run, on one machine: ``python -m benchmarks``.

Not part of the installed package. Each measurement runs in a process of its own with a deadline
(``measure``), the runner goes round the systems again and again so that a drift of the machine
hits all alike (``runner``), and one table with ratios and budgets comes out (``table``).
"""
