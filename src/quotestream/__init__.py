"""The command `quotestream`: every recipe that needs no checkout, as a subcommand.

In: the command line. Out: whatever the recipe's package does with the rest of it.
"""
