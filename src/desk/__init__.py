"""For the end of the day: the ledger's fills as a file, and how they differ from somebody else's."""
