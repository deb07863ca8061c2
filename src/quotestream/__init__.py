"""The command `quotestream`. Every recipe that needs no checkout is a subcommand.

In: the command line. Out: what the recipe's package does with the remaining arguments.
"""
