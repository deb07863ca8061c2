"""For traders: exports the ledger's fills, compares them with another party's file, and backtests the strategy."""
