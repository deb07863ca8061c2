"""For the end of the day: the ledger's fills as a file, and how they differ from somebody else's. And for the evening:
what the strategy would come to by itself, in a market that behaves as its model says."""
