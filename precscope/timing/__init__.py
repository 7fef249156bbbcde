"""Where the time of a step goes, on which clock, and how much of it is tensor-core work.

Nothing here needs a GPU to be imported: what a machine lacks is left out, with the reason.
"""
