"""Settlement procedures, one module each with ``settle(terms, inputs) -> Worksheet``.

A file of rules names the procedure that settles it; two programs with the same steps share one.
"""
